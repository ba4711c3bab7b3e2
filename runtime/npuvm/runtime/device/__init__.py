"""A simulated device: memory, tensors, the program cache, streams, transfers, timelines."""
