"""Which operators share a program, and which programs a launch: costs, decisions, and what is told of them."""
