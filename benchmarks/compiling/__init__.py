"""Kernels whose compilation is timed, here and by TorchInductor."""
