"""What the tests of whole runs share: a tiny dataset and config, and processes that misbehave."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
DRIVER = HERE / "engine_driver.py"

RETINANET = {
    "MODEL": {
        "META_ARCHITECTURE": "RetinaNet",
        "DEVICE": "cpu",
        "PIXEL_STD": [57.375, 57.12, 58.395],
        "BACKBONE": {"NAME": "build_retinanet_resnet_fpn_backbone", "FREEZE_AT": 0},
        "RESNETS": {
            "DEPTH": 50,
            "STEM_OUT_CHANNELS": 32,
            "WIDTH_PER_GROUP": 32,
            "RES2_OUT_CHANNELS": 32,
            "NORM": "GN",
            "OUT_FEATURES": ["res3", "res4", "res5"],
        },
        "FPN": {"IN_FEATURES": ["res3", "res4", "res5"], "OUT_CHANNELS": 32},
        "ANCHOR_GENERATOR": {"SIZES": [[8], [16], [32], [64], [128]]},
        "RETINANET": {"NUM_CONVS": 1},
    },
    "INPUT": {"MIN_SIZE_TRAIN": [48, 64], "MAX_SIZE_TRAIN": 96, "MIN_SIZE_TEST": 64},
    "DATALOADER": {"NUM_WORKERS": 0, "FILTER_EMPTY_ANNOTATIONS": False},
    "SOLVER": {
        "IMS_PER_BATCH": 2,
        "BASE_LR": 0.002,
        "MAX_ITER": 6,
        "STEPS": [4],
        "WARMUP_ITERS": 2,
        "CHECKPOINT_PERIOD": 2,
    },
    "SEED": 1,
}

# It finds something from the start: AP is a number.
DETECTING = {
    **RETINANET,
    "MODEL": {
        **RETINANET["MODEL"],
        "RETINANET": {**RETINANET["MODEL"]["RETINANET"], "SCORE_THRESH_TEST": 0.0},
    },
}

LIBRA = {
    **RETINANET,
    "MODEL": {
        **RETINANET["MODEL"],
        "META_ARCHITECTURE": "GeneralizedRCNN",
        "CHANNELS_LAST": True,
        "BACKBONE": {"NAME": "build_bfp_backbone", "FREEZE_AT": 0},
        "RESNETS": {
            **RETINANET["MODEL"]["RESNETS"],
            "NORM": "BN",
            "OUT_FEATURES": ["res2", "res3", "res4", "res5"],
        },
        "FPN": {"IN_FEATURES": ["res2", "res3", "res4", "res5"], "OUT_CHANNELS": 32},
        "RPN": {
            "IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
            "PRE_NMS_TOPK_TRAIN": 100,
            "PRE_NMS_TOPK_TEST": 100,
            "POST_NMS_TOPK_TRAIN": 50,
            "POST_NMS_TOPK_TEST": 50,
        },
        "ROI_HEADS": {
            "NAME": "LibraROIHeads",
            "IN_FEATURES": ["p2", "p3", "p4", "p5"],
            "BATCH_SIZE_PER_IMAGE": 16,
        },
        "ROI_BOX_HEAD": {
            "NAME": "FastRCNNConvFCHead",
            "NUM_FC": 1,
            "FC_DIM": 32,
            "POOLER_RESOLUTION": 3,
        },
    },
}


def write_dataset(folder: Path, num_images: int = 7, num_val: int = 3, empty=(2,), tall=(0, 3, 6)):
    """COCO files of rectangles on noise: wide and tall images, those of ``empty`` without any.

    Returns:
        the folder.
    """
    rng = np.random.RandomState(0)
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for split, count in (("train", num_images), ("val", num_val)):
        images, annotations = [], []
        for i in range(count):
            height, width = (80, 64) if i in tall else (64, 80)
            name = f"{split}_{i}.png"
            picture = rng.randint(0, 60, (height, width, 3)).astype(np.uint8)
            for _ in range(0 if i in empty else rng.randint(1, 4)):
                w, h = rng.randint(12, 40, 2)
                x, y = rng.randint(0, width - w), rng.randint(0, height - h)
                category = int(rng.randint(1, 3))
                color = (250, 40, 40) if category == 1 else (40, 250, 40)
                cv2.rectangle(picture, (x, y), (x + w, y + h), color, -1)
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": i,
                        "category_id": category,
                        "bbox": [int(x), int(y), int(w), int(h)],
                        "area": int(w * h),
                        "iscrowd": 0,
                    }
                )
            cv2.imwrite(str(folder / "images" / name), picture)
            images.append({"id": i, "file_name": name, "height": height, "width": width})
        categories = [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(content))
    return folder


def write_config(path: Path, config: dict) -> Path:
    path.write_text(yaml.safe_dump({**config, "VERSION": 2}))
    return path


def run(args, *, misbehave: str = "", launcher=(), timeout: float = 240):
    """Run train_net.py to its end; see engine_driver.py for ``misbehave``.

    Returns:
        the process; ``returncode``, and in ``out`` all that it and its children printed.
    """
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MISBEHAVE": misbehave}
    command = [sys.executable, *launcher, str(DRIVER), *map(str, args)]
    with tempfile.TemporaryFile("w+") as log:  # a pipe would stay open as long as any child lives
        process = subprocess.Popen(
            command, cwd=REPO, env=env, stdout=log, stderr=log, start_new_session=True
        )
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            raise AssertionError(f"did not end in {timeout} s:\n{_read(log)[-3000:]}") from None
        process.out = _read(log)
    return process


def _read(log) -> str:
    log.seek(0)
    return log.read()


def weights(path: Path, key: str = "model") -> dict:
    return torch.load(path, weights_only=True)[key]


def differences(a: dict, b: dict) -> dict:
    """Names of tensors -> largest absolute difference, where there is one."""
    assert a.keys() == b.keys()
    diffs = {k: (a[k].double() - b[k].double()).abs().max().item() for k in a}
    return {k: d for k, d in diffs.items() if d != 0}
