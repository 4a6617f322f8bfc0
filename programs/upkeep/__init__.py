"""What runs by itself: the sweeps that look for what was lost, and the programs that come with jobsite."""

__all__ = ["housekeeping", "installation", "sweeps", "system_programs"]
