"""What launches say besides their cycles: explained, idealised, energy, uncertainty, use of instructions."""
