"""From a kernel to launches: planned once for each graph and chip, an instance for each shape."""
