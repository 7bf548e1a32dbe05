"""torchvision's detectors: their tensors by name, and the config that computes what they do."""
