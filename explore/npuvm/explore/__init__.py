"""Exploration on the simulator: what tiles cost, and what chips and programs could be."""
