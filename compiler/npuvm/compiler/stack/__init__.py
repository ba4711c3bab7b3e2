"""Stacks: several kernels in one launch, beside each other or one after the other."""
