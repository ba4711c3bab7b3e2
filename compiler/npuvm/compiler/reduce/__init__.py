"""Reduces and prefix sums that many cores share."""
