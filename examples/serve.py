"""A detector as a web service: an image's bytes in, its detections out as JSON.

pip install fastapi uvicorn
WEIGHTS=output/model_best.pth uvicorn --app-dir examples serve:app
curl --data-binary @photo.jpg 'http://127.0.0.1:8000/detect?threshold=0.4'
"""

import asyncio
import os
from typing import Annotated

import cv2
import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request

from libra_umop import LibraPredictor

app = FastAPI(title="libra-umop")
predictor = LibraPredictor.from_weights(os.environ["WEIGHTS"], threshold=0.05)
one_at_a_time = asyncio.Lock()  # the model uses all cores, or the GPU, for one image


@app.post("/detect")
async def detect(request: Request, threshold: Annotated[float, Query(ge=0, le=1)] = 0.5):
    """Detections of the image in the body; boxes are XYXY pixels of it."""
    content = np.frombuffer(await request.body(), np.uint8)
    image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if image is None:
        raise HTTPException(422, "the body is no image that can be read")
    async with one_at_a_time:
        found = await asyncio.to_thread(predictor, image)
    instances = found["instances"].to("cpu")
    rows = zip(instances.pred_boxes, instances.scores, instances.pred_classes, strict=True)
    names = predictor.class_names
    return [
        {"class": names[c] if names else int(c), "score": float(score), "box": box.tolist()}
        for box, score, c in rows
        if score >= threshold
    ]
