"""Plans: a graph cut into segments before its sizes are known, and where each value lies."""
