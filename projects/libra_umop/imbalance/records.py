"""The form on disk of what :class:`.probes.collector.ImbalanceCollector` measures.

``OUTPUT_DIR/imbalance/meta.json`` is one JSON object, rewritten when training starts:

=================  ================================================================================
``format``         1; a reader refuses what is newer
``detector``       name of the meta architecture
``class_names``    list[str], in the order of the model's classes
``levels``         {head: [names]} of the pyramid levels, finest first; heads are "dense" or "rpn"
``anchor_sizes``   {head: [px]}, side of the square box that a level is made for
``iou_edges``      edges of the IoU histograms, 41 numbers in [0, 1]
``error_edges``    edges of the box-error histograms, 101 numbers from 0; a last bin holds the rest
``settings``       what the run's losses and samplers were set to, see :func:`empty_settings`
``datasets``       {"train" | "test": [{"name", "json_file", "image_root"}]}
``min_size``, ``max_size``   of training images, px, as the config has them
=================  ================================================================================

``OUTPUT_DIR/imbalance/steps.jsonl`` has one JSON object a line, one line per measured iteration; a
resumed run appends, and the last line of an iteration counts. Sections that do not apply are
absent:

=============  ====================================================================================
``iteration``  int; ``seconds``: the time the measuring took; ``step_seconds``: the whole step
``sample``     ``all``, ``random``, ``picked``, ``hard``: IoU histograms (40 counts) of negatives:
               every candidate, what random picks would be on average, those the head learnt from,
               the tenth with the highest loss; ``hard_among``: "all" or "picked"
``feature``    per level, finest first: ``levels``; ``before``, ``after``: root mean square before
               and after BFP; ``share``: the level's part in the integrated feature, sum 1;
               ``cosine`` to it; ``gain``: norm of what BFP adds over the norm before. ``after`` and
               ``gain`` are null without BFP
``objective``  {head: {``count``, ``gradient``}}: per bin of abs(prediction - target), in the head's
               own units: coordinates of positives, and their part of the box gradient, sum 1
``level``      {head: ...}, per level: ``anchors``, ``positives``; ``p_sum`` and ``neg_log_p_sum``
               over the positives; ``gradient_positives``, ``gradient_negatives``: part of the
               classification gradient, both together sum 1 over the levels
``class``      {head: ...}, head "dense" or "roi_heads", lists over the classes by label:
               ``gradient_positives``, ``gradient_negatives``: part of the classification gradient
               that a class's scores get from its own anchors or regions and from all others,
               together sum 1; ``loss_positives``, ``loss_negatives``: likewise of the loss (dense:
               the focal loss at the detector's gamma and alpha); with a softmax in place of
               ``loss_negatives`` a number, ``loss_background``
=============  ====================================================================================
"""

import json
import math
from pathlib import Path
from typing import Any

FORMAT = 1
FOLDER = "imbalance"
META_FILE = "meta.json"
STEPS_FILE = "steps.jsonl"
NUM_IOU_BINS = 40
NUM_ERROR_BINS = 100
MAX_ERROR = 2.0
IOU_EDGES = [i / NUM_IOU_BINS for i in range(NUM_IOU_BINS + 1)]
ERROR_EDGES = [MAX_ERROR * i / NUM_ERROR_BINS for i in range(NUM_ERROR_BINS + 1)]

PathLike = str | Path


def empty_settings() -> dict[str, Any]:
    """Settings of a run of which nothing is known.

    Returns:
        ``sampler`` ("random", "iou_balanced", "ohem" or None), ``backbone`` (its registered name),
        ``bfp`` (bool), ``box_losses``
        {head: {"type", "beta", "alpha", "gamma"}} and ``focus`` {"gamma", "alpha", "delta", "w",
        "progressive", "level_wise", "formula"}; None where it does not apply.
    """
    return {"sampler": None, "backbone": None, "bfp": False, "box_losses": {}, "focus": None}


def shorten(value: Any, digits: int = 5) -> Any:
    """``value`` with its floats rounded to ``digits`` significant digits, NaN and inf to None."""
    if isinstance(value, dict):
        return {k: shorten(v, digits) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [shorten(v, digits) for v in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value == int(value) else float(f"{value:.{digits}g}")
    return value


def write_meta(output_dir: PathLike, meta: dict[str, Any]) -> None:
    """Write ``meta`` to ``output_dir``, whole or not at all."""
    folder = Path(output_dir) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / (META_FILE + ".tmp")
    temporary.write_text(json.dumps({"format": FORMAT, **meta}, indent=1), encoding="utf-8")
    temporary.replace(folder / META_FILE)


def append_step(output_dir: PathLike, step: dict[str, Any]) -> None:
    """Append one measured iteration to ``output_dir``."""
    path = Path(output_dir) / FOLDER / STEPS_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as f:
        f.write(json.dumps(shorten(step), separators=(",", ":")) + "\n")


def read_meta(output_dir: PathLike) -> dict[str, Any]:
    """The meta data in ``output_dir``; empty if nothing was collected there.

    Raises:
        ValueError: the file is not JSON, or of a newer format.
    """
    path = Path(output_dir) / FOLDER / META_FILE
    if not path.is_file():
        return {}
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as e:
        raise ValueError(f"{path} is not JSON: {e}") from None
    if not isinstance(meta, dict) or not isinstance(meta.get("format"), int):
        raise ValueError(f"{path} has no format number")
    if meta["format"] > FORMAT:
        raise ValueError(
            f"{path} has format {meta['format']}, newer than {FORMAT}, the newest known"
        )
    return meta


def read_steps(output_dir: PathLike) -> list[dict[str, Any]]:
    """The measured iterations in ``output_dir``, in order; empty if there are none.

    A line that a killed run left half written is passed over.
    """
    path = Path(output_dir) / FOLDER / STEPS_FILE
    if not path.is_file():
        return []
    steps: dict[int, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            step = json.loads(line)
            steps[int(step["iteration"])] = step
        except (json.JSONDecodeError, KeyError, TypeError, ValueError):
            continue
    return [steps[k] for k in sorted(steps)]
