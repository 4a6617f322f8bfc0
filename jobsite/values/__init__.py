"""Plain values: reading and writing moments and durations, making values storable, masking secrets."""

__all__ = ["durations", "masking", "storable", "times"]
