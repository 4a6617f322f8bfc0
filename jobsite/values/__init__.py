"""Plain values and how they are read and written: moments, durations, what can be stored, what is hidden."""

__all__ = ["durations", "masking", "storable", "times"]
