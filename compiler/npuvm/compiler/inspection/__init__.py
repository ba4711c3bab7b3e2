"""A compiled kernel opened up: phases as text, tiles, buffers, rings."""
