"""The numpy meaning of a graph, which rounds where the instruction set rounds."""
