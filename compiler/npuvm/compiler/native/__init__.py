"""Choices that a shape waits for, as machine code: an option for processes that compile kernels all the time."""
