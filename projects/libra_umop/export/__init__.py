"""Shipping a trained detector: TorchScript and ONNX files that give the model's own boxes."""
