"""What all choices of tiles stand on: the hardware's levels as data, libraries of measured costs, formulas."""
