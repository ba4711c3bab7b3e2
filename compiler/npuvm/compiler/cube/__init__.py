"""Matrix products: choice of tiles, cost, code, and templates for every shape."""
