"""An exported ONNX detector without Detectron2 or PyTorch: numpy, pillow, onnxruntime do.

python examples/onnx_inference.py detector.onnx photo.jpg
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
meta = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}

photo = Image.open(sys.argv[2]).convert("RGB")
scale = min(meta["min_size"] / min(photo.size), meta["max_size"] / max(photo.size)) or 1
size = tuple(int(side * scale + 0.5) for side in photo.size)
image = np.asarray(photo.resize(size, Image.BILINEAR), dtype=np.float32).transpose(2, 0, 1)
image = np.ascontiguousarray(image[::-1] if meta["input_format"] == "BGR" else image)

boxes, scores, classes = session.run(["boxes", "scores", "classes"], {"image": image})
boxes *= np.array([photo.width / size[0], photo.height / size[1]] * 2, dtype=np.float32)
for (x1, y1, x2, y2), score, label in zip(boxes, scores, classes, strict=True):
    name = meta["class_names"][label] if meta["class_names"] else label
    print(f"{name} {score:.3f} {x1:.1f} {y1:.1f} {x2:.1f} {y2:.1f}")
