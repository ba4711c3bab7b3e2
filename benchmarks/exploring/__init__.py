"""What the benchmark of design-space searches is made of."""
