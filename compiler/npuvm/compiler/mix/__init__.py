"""Mixes: a product, and what is computed of each of its tiles, in one program."""
