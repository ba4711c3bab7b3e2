"""Validation of the chip model on published measurements of silicon; `run.py` is the command."""
