"""Choices of tiles held against each other and against the best tile that a search finds, all on the same simulator."""
