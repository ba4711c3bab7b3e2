"""The `@kernel` language: a Python function, traced once, becomes a graph; kinds and pins of kernels."""
