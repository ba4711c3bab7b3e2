"""Instruction selection: graphs in operations that the units have, and what instructions compute of them."""
