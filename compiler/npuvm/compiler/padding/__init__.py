"""Operands of products that are copied to padded rows first."""
