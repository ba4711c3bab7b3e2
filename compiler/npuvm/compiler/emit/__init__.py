"""Writing programs: the instruction builder, on-chip memory, walks over tiles, and templates with open fields."""
