"""What the workers of each contender load: the same job, spelled as each wants it."""
