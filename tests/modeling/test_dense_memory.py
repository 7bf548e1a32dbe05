"""What a dense detector holds of anchors x classes from the forward to the backward pass."""

import pytest
import torch
from detectron2.utils.events import EventStorage

from libra_umop.modeling.dense.losses.classification import CLS_LOSSES
from testing.batches import make_batch
from testing.dense_models import DETECTORS, keys_of, tiny_model

K = 7  # unlike 4, the numbers of a box
FAMILIES = ("LibraRetinaNet", "ATSS", "FCOS")
WITH_LOSS = [
    (name, f"MODEL.{keys_of(name)}.CLS_LOSS_TYPE", loss) for name in FAMILIES for loss in CLS_LOSSES
]


def held(name, *opts):
    """Bytes that autograd keeps of (anchors, classes), over those of the logits in float32."""
    keys = keys_of(name)
    model = tiny_model(name, f"MODEL.{keys}.NUM_CLASSES", K, *opts)
    logits, kept = [], {}
    model.head.cls_score.register_forward_hook(lambda module, args, out: logits.append(out))

    def keep(x):
        kept[x.untyped_storage().data_ptr()] = x
        return x

    with EventStorage(), torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        sum(model(make_batch()).values())
    sizes = {x.numel() for x in logits}
    whole = sum(x.numel() for x in logits)
    by_class = [x for x in kept.values() if x.numel() in {whole, *sizes} or x.shape[1:] == (K,)]
    return sum(x.untyped_storage().nbytes() for x in by_class) / (4 * whole)


@pytest.mark.parametrize("case", [*((name,) for name in DETECTORS), *WITH_LOSS], ids=" ".join)
def test_nothing_of_anchors_x_classes_is_held_twice(case):
    """The gradient alone, in float32. The same count of Detectron2's RetinaNet is above 7."""
    assert held(*case) == 1


def test_what_autograd_holds_is_counted():
    assert held("RetinaNet") > 7
