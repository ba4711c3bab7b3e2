"""Rows picked by index: segments that the load and store engines move by themselves."""
