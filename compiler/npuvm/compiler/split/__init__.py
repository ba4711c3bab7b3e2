"""Products whose k several cores share."""
