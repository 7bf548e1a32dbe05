"""The imbalance between classes: what the probe hears, what is counted, and what is advised."""

import copy

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch.nn import functional as F

from libra_umop.functional import focal_loss_by_class, focal_loss_sum
from libra_umop.imbalance.findings import classes as find_classes
from libra_umop.imbalance.measures.classes import measure_classes
from libra_umop.imbalance.probes.class_probe import ClassProbe
from libra_umop.imbalance.probes.collector import ImbalanceCollector
from libra_umop.imbalance.report.figures import classes as show_classes
from testing import batches, dense_models, tiny_rcnn

DENSE = ("LibraRetinaNet", "UMOPRetinaNet", "ATSS", "FCOS", "RetinaNet")
HEADS = ("StandardROIHeads", "LibraROIHeads", "LibraCascadeROIHeads", "OHEMROIHeads")


def rcnn(heads):
    cascade = ["MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "Cascade" in heads]
    options = ["MODEL.ROI_HEADS.NAME", heads, *cascade]
    return tiny_rcnn.tiny_model(tiny_rcnn.tiny_config(options=options))


def heard(model, batch, probe=None):
    """Losses, gradients and sections of one step that is listened to, or not."""
    torch.manual_seed(1)
    model.zero_grad()
    if probe:
        probe.attach()
    with EventStorage():
        losses = model(batch)
    sum(losses.values()).backward()
    if probe:
        probe.detach()
        assert not probe.failed
    grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    return {k: v.detach() for k, v in losses.items()}, grads, probe.sections() if probe else {}


def test_loss_by_class_sums_to_the_focal_loss():
    logits, labels = torch.randn(50, 4), torch.randint(-1, 5, (50,))
    own, others = focal_loss_by_class(logits, labels, gamma=2.0, alpha=0.25)
    torch.testing.assert_close(
        own.sum() + others.sum(), focal_loss_sum(logits, labels, gamma=2.0, alpha=0.25)
    )
    mine = focal_loss_sum(logits[labels == 2], labels[labels == 2], gamma=2.0, alpha=1.0)
    torch.testing.assert_close(own[2], 0.25 * mine)


@pytest.mark.parametrize("name", DENSE)
def test_parts_of_a_dense_detector_are_of_one_whole_and_the_step_stays_as_it_is(name):
    model, batch = dense_models.tiny_model(name), batches.make_batch()
    expected = heard(copy.deepcopy(model), batch)
    losses, grads, sections = heard(model, batch, ClassProbe(model))
    # Detectron2's loss is TorchScript, which rounds otherwise when it has run before.
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if name == "RetinaNet" else {"rtol": 0, "atol": 0}
    torch.testing.assert_close((losses, grads), expected[:2], **tolerance)
    section = sections["class"]["dense"]
    for kind in ("loss", "gradient"):
        own, others = (torch.tensor(section[f"{kind}_{x}"]) for x in ("positives", "negatives"))
        assert own.shape == others.shape == (dense_models.NUM_CLASSES,)
        assert float(own.sum() + others.sum()) == pytest.approx(1, abs=1e-5)
        assert (own > 0).all() and (others > 0).all()  # the batch has a box of each class
    assert "losses" not in vars(model)


@pytest.mark.parametrize("heads", HEADS)
def test_parts_of_roi_heads_are_of_one_whole_and_the_step_stays_as_it_is(heads):
    torch.manual_seed(0)
    batch, model = batches.a_batch(3, 2), rcnn(heads)
    expected = heard(copy.deepcopy(model), batch)
    probe = ClassProbe(model)
    losses, grads, sections = heard(model, batch, probe)
    torch.testing.assert_close((losses, grads), expected[:2], rtol=0, atol=0)
    section = sections["class"]["roi_heads"]
    whole = sum(section["loss_positives"]) + section["loss_background"]
    assert whole == pytest.approx(1, abs=1e-5)
    gradient = sum(section["gradient_positives"]) + sum(section["gradient_negatives"])
    assert gradient == pytest.approx(1, abs=1e-5)


def test_gradient_of_roi_heads_is_that_of_the_softmax():
    """abs(p - y) of each column, over the regions of its class and over the others."""
    torch.manual_seed(0)
    batch, model, seen = batches.a_batch(3, 2), rcnn("LibraROIHeads"), {}
    predictor = model.roi_heads.box_predictor
    original = predictor.losses

    def losses(predictions, proposals):
        seen["scores"] = predictions[0].detach()
        seen["labels"] = torch.cat([p.gt_classes for p in proposals])
        return original(predictions, proposals)

    predictor.losses = losses
    _, _, sections = heard(model, batch, ClassProbe(model))
    target = F.one_hot(seen["labels"], num_classes=4)
    size = (seen["scores"].softmax(dim=1) - target).abs()[:, :3]
    is_own = target[:, :3].bool()
    whole = size.sum()
    section = sections["class"]["roi_heads"]
    for name, mask in (("positives", is_own), ("negatives", ~is_own)):
        torch.testing.assert_close(
            torch.tensor(section[f"gradient_{name}"]), (size * mask).sum(dim=0) / whole
        )


@pytest.mark.parametrize("name", ["ATSS", "LibraROIHeads", "LibraCascadeROIHeads"])
def test_probes_of_one_method_all_hear_it_and_leave_nothing_behind(name):
    torch.manual_seed(0)
    is_dense = name == "ATSS"
    model = dense_models.tiny_model(name) if is_dense else rcnn(name)
    batch = batches.make_batch() if is_dense else batches.a_batch(3, 2)
    collector = ImbalanceCollector(output_dir="", meta={})
    collector._probes = probes = collector.build_probes(model)
    for probe in probes:
        probe.attach()
    heard(model, batch)
    heads = [head for probe in probes for head in probe.sections().get("class", {})]
    assert heads == ["dense" if is_dense else "roi_heads"]
    assert not any(probe.failed for probe in probes)
    collector.after_train()
    for module in model.modules():
        assert not {"losses", "label_and_sample_proposals"} & set(vars(module))


def coco(*images):
    """A COCO file of classes a, b, ...: of each image the classes of its boxes."""
    names = sorted({name for image in images for name in image})
    return {
        "images": [{"id": i} for i in range(len(images))],
        "categories": [{"id": k, "name": name} for k, name in enumerate(names)],
        "annotations": [
            {"image_id": i, "category_id": names.index(name), "bbox": [0, 0, 1, 1]}
            for i, image in enumerate(images)
            for name in image
        ],
    }


APART = coco(*["a"] * 16, "b", "c", "c", "c", "c")  # 16, 1 and 4 boxes, each class apart
TOGETHER = coco(*["a" * 16 + "b"] * 3)  # 16 boxes of a for each of b, in the same images


def test_boxes_and_images_are_counted_and_what_repeating_makes_of_them():
    data = measure_classes(APART, [], [], {"AP-a": 30.0, "AP-c": 20.0, "AP-b": float("nan")})
    assert data["names"] == ["a", "c", "b"]
    assert data["boxes"] == data["images"] == [16, 4, 1]
    assert data["AP"][:2] == [30.0, 20.0]
    assert data["ratio"] == 16
    # The median class is in 4 of 21 images; b is shown sqrt(4) times.
    assert data["repeat_threshold"] == pytest.approx(4 / 21)
    assert data["repeat_ratio"] == pytest.approx(16 / 2)
    assert data["gradient_positives"] is None


def test_parts_follow_the_order_of_the_classes():
    section = {"gradient_positives": [0.1, 0.2, 0.3], "gradient_negatives": [0.1, 0.1, 0.2]}
    steps = [{"class": {"dense": section}}, {"class": {"dense": section}}, {}]
    data = measure_classes(APART, steps, ["c", "b", "a"], {})
    assert data["gradient_positives"] == pytest.approx([0.3, 0.1, 0.2])
    assert data["loss_positives"] is None and data["AP"] is None


def test_data_of_one_class_have_no_such_imbalance():
    assert measure_classes(coco("a", "aa"), [], ["a"], {}) is None


def run(data, levers=(), switches=("repeat_factor", "class_weights")):
    pairs = {name: [["KEY", name]] for name in switches if name not in levers}
    return {"name": "run", "class": data, "levers": list(levers), "switches": pairs}


def test_large_ratio_is_a_large_finding_that_names_the_sampler():
    (found,) = find_classes.find(run(measure_classes(APART, [], [], {})))
    assert (found.imbalance, found.size, found.lever) == ("class", "large", "repeat_factor")
    assert found.text == (
        "a has 16 times the training boxes of b (16 in 16 images against 1 in 1). Of the boxes that"
        " training sees, with repeat-factor sampling (threshold 0.19, the median class) it would be"
        " 8.0 times."
    )
    assert found.pair[:2] == ("16", "1")


def test_classes_that_share_their_images_are_for_the_weights():
    (found,) = find_classes.find(run(measure_classes(TOGETHER, [], [], {})))
    assert (found.size, found.lever) == ("large", "class_weights")
    assert "Classes share their images" in found.text


def test_lever_that_is_on_is_named_and_nothing_more_advised():
    data = measure_classes(APART, [], [], {})
    (found,) = find_classes.find(run(data, levers=["class_weights"]))
    assert (found.size, found.lever) == ("", "") and found.text.endswith("has class_weights.")


def test_even_classes_are_a_small_finding():
    (found,) = find_classes.find(run(measure_classes(coco("ab", "b", "a"), [], [], {})))
    assert (found.size, found.lever) == ("small", "")


def test_rarer_half_is_set_against_the_other():
    section = {"gradient_positives": [0.4, 0.1, 0.05], "gradient_negatives": [0.1, 0.15, 0.2]}
    metrics = {"AP-a": 30.0, "AP-b": 2.0, "AP-c": 20.0}
    data = measure_classes(APART, [{"class": {"dense": section}}], list("abc"), metrics)
    (found,) = find_classes.find(run(data))
    assert "rarer half of the classes has 2.0 AP on average, the other 25.0" in found.text
    assert "own boxes give 10 %, what presses on these classes 15 %; 45 % and 30 %" in found.text


@pytest.mark.parametrize("num_classes, drawn", [(3, 3), (16, 16), (40, 16)])
def test_figures_show_the_most_and_the_least_frequent(num_classes, drawn):
    data = {
        "names": [f"c{i}" for i in range(num_classes)],
        "boxes": list(range(num_classes, 0, -1)),
        "images": [1] * num_classes,
        "AP": [10.0] * num_classes,
        **{f"{k}_{x}": [0.1] * num_classes for k in ("loss", "gradient") for x in ("positives",)},
        **{f"{k}_negatives": None for k in ("loss", "gradient")},
    }
    measured = [{"name": n, "class": data} for n in ("one", "two")]
    cards = show_classes.cards(measured)
    assert [c.title for c in cards] == [
        *("Boxes and images", "AP against frequency", "Gradient by class", "Loss by class"),
    ]
    assert len(cards[0].content.data[0].y) == drawn
    assert [c.content for c in show_classes.cards([{"name": "x", "class": None}])] == [None] * 3
