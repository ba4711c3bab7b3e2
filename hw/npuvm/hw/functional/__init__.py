"""What instructions do to data: execution with time and without it, and where data lies."""
