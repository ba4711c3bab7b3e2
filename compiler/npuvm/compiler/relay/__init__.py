"""Relays: products and a vector segment that hand blocks of rows to each other, in one program."""
