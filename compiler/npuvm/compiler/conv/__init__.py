"""Convolutions: choice of tiles, cost, code, and what shares a program with one."""
