"""Shipping a trained detector: TorchScript and ONNX files that give the boxes of the model itself."""
