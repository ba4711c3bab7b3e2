"""Where graphs come from besides the kernel language: ONNX models, and operations that are gathered as they are called."""
