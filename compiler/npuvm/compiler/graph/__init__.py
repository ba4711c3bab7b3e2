"""The graph: nodes, types, symbolic sizes, the operations and their rules, and the printed form."""
