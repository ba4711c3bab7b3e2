"""Subgraphs of real models, the modes of fusion they run in, and the search for their best fusion."""
