"""Exploration on the simulator: what the compiler and its users learn from many runs."""
