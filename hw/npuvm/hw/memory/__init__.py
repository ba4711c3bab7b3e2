"""The memory system that all cores share, and the banks of the unified buffer."""
