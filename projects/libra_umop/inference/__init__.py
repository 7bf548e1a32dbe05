"""From photos to detections: the predictor, its inputs and outputs."""
