"""What `benchmarks/operators.py` measures: kernels with their shapes, runs with their roofs, the search for better tiles."""
