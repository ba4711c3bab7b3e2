"""Vector segments: lowering, covering by instructions, choice of tiles, buffers, code."""
