"""What the workers of each contender load: the same job, written for each of them."""
