"""Models as ONNX graphs with symbolic sizes, in the style of exporters; weights are random where none are published."""
