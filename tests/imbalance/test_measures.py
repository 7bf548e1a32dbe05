"""The numbers of the report, against hand arithmetic and identities of the papers."""

import numpy as np
import pytest

from libra_umop.imbalance.measures import objective
from libra_umop.imbalance.measures.data import measure_data, nearest_level
from libra_umop.imbalance.measures.feature import measure_feature
from libra_umop.imbalance.measures.level import free_range, measure_level
from libra_umop.imbalance.measures.objective import measure_objective
from libra_umop.imbalance.measures.sample import measure_sample, share_above
from libra_umop.imbalance.records import ERROR_EDGES, NUM_ERROR_BINS, NUM_IOU_BINS

SMOOTH_L1 = {"type": "smooth_l1", "beta": 1.0}
BALANCED_L1 = {"type": "balanced_l1", "beta": 1.0, "alpha": 0.5, "gamma": 1.5}


def histogram(**counts):
    """IoU histogram with ``b3=2``: two in bin 3."""
    values = [0] * NUM_IOU_BINS
    for name, count in counts.items():
        values[int(name[1:])] = count
    return values


def test_share_above_starts_at_the_edge():
    assert share_above(np.array(histogram(b0=3, b1=3, b2=2, b9=2))) == pytest.approx(0.4)


def test_share_above_of_nothing_is_nan():
    assert np.isnan(share_above(np.zeros(NUM_IOU_BINS)))


def test_sample_histograms_are_summed_over_steps():
    section = {"all": histogram(b0=8, b4=2), "random": histogram(b0=4, b4=1)}
    section.update(picked=histogram(b4=5), hard=histogram(b0=1, b4=3), hard_among="all")
    empty = {k: histogram() for k in ("all", "random", "picked", "hard")}
    measured = measure_sample([{"sample": section}, {"sample": empty}, {"iteration": 3}])
    shares = [measured[k]["share_above"] for k in ("all", "random", "picked", "hard")]
    assert shares == pytest.approx([0.2, 0.2, 1.0, 0.75])
    assert measured["all"]["count"] == 10
    assert sum(measured["hard"]["histogram"]) == pytest.approx(1)


def test_nothing_measured_is_none():
    assert measure_sample([{"iteration": 0}]) is None
    assert measure_feature([]) is None
    assert measure_level([], "dense", ["p3"]) is None
    assert measure_objective([], {}) == {}


def test_feature_is_the_mean_over_steps():
    def step(share):
        return {
            "feature": {
                "levels": ["p3", "p4"],
                "before": [2.0, 1.0],
                "share": share,
                "cosine": [1.0, 1.0],
                "after": None,
                "gain": None,
            }
        }

    measured = measure_feature([step([0.9, 0.1]), step([0.7, 0.3])])
    assert measured["share"] == pytest.approx([0.8, 0.2])
    assert measured["ratio"] == pytest.approx(4.0)
    assert measured["after"] is None and measured["gain"] is None


def test_smooth_l1_gradient_is_the_error_up_to_one():
    x = np.array([0.0, 0.25, 1.0, 3.0])
    assert objective.gradient(x, SMOOTH_L1) == pytest.approx([0, 0.25, 1, 1])


def test_balanced_l1_gradient_reaches_gamma_at_the_transition():
    x = np.array([0.0, 0.999999, 1.0, 3.0])
    assert objective.gradient(x, BALANCED_L1) == pytest.approx([0, 1.5, 1.5, 1.5], abs=1e-4)


@pytest.mark.parametrize(
    "loss, closed_form",
    [
        (SMOOTH_L1, lambda x: 0.5 * x**2),
        (
            BALANCED_L1,
            lambda x: (
                0.5 / np.expm1(3) * (np.expm1(3) * x + 1) * np.log(np.expm1(3) * x + 1) - 0.5 * x
            ),
        ),
    ],
)
def test_loss_curve_is_the_closed_form_below_the_transition(loss, closed_form):
    x = np.linspace(0, 1, 2001)
    assert objective.value(x, loss) == pytest.approx(closed_form(x), abs=1e-5)


def test_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="is 'giou', should be one of"):
        objective.gradient(np.zeros(1), {"type": "giou"})


def test_inliers_give_a_third_of_smooth_l1_on_uniform_errors():
    count = np.array([10.0] * NUM_ERROR_BINS + [0.0])  # uniform over [0, 2]
    share = objective.predicted_share(count, SMOOTH_L1, 1.0)
    assert share == pytest.approx(
        0.5 / 1.5, abs=1e-3
    )  # integral of x over [0, 1], of 1 over [1, 2]


def test_share_below_is_linear_inside_a_bin():
    weights = np.zeros(NUM_ERROR_BINS + 1)
    weights[0], weights[-1] = 1.0, 1.0
    assert objective.share_below(weights, ERROR_EDGES[1] / 2) == pytest.approx(0.25)


def test_balanced_l1_raises_the_inliers_share():
    count = np.array([10.0] * NUM_ERROR_BINS + [0.0])
    gradient = count.copy()
    step = {"iteration": 0, "objective": {"roi_heads": {"count": count, "gradient": gradient}}}
    measured = measure_objective([step], {"roi_heads": SMOOTH_L1})["roi_heads"]
    assert measured["threshold"] == 1.0
    assert measured["inliers"] == pytest.approx(0.5)
    assert measured["balanced_l1"] > objective.predicted_share(count, SMOOTH_L1, 1.0) + 0.08


def test_transition_of_losses_without_one_is_the_papers():
    assert objective.transition({"type": "smooth_l1", "beta": 0.0}) == 1.0
    assert objective.transition({"type": "giou"}) == 1.0
    assert objective.transition({"type": "balanced_l1", "beta": 0.11}) == 0.11


def level_step(iteration, positives, mean_p):
    section = {"anchors": [1000, 100], "positives": positives}
    section["p_sum"] = [n * p for n, p in zip(positives, mean_p, strict=True)]
    section["neg_log_p_sum"] = [-n * np.log(p) for n, p in zip(positives, mean_p, strict=True)]
    section.update(gradient_positives=[0.5, 0.1], gradient_negatives=[0.3, 0.1])
    return {"iteration": iteration, "level": {"dense": section}}


def test_level_rates_gammas_and_clipping():
    steps = [level_step(0, [10, 0], [0.15, 0.5]), level_step(20, [30, 2], [0.02, 0.5])]
    measured = measure_level(steps, "dense", ["p3", "p4"])
    assert measured["rates"] == [[0.01, 0.0], [0.03, 0.02]]
    assert measured["rate"] == pytest.approx([0.02, 0.01])
    assert measured["gamma"][0] == pytest.approx([-np.log(0.15), None])
    assert measured["gamma"][1] == pytest.approx([2.5, 1.5])
    assert measured["alpha"][1] == pytest.approx([0.2, 1 / 3])
    assert measured["clipped"] == [0.5, 1.0]
    assert measured["clipped_all"] == pytest.approx(2 / 3)
    assert measured["mean_p"] == pytest.approx([(1.5 + 0.6) / 40, 0.5])


def test_reference_focus_averages_the_logarithms():
    """p = .3, .02: gamma 2.56 by the mean of logarithms, 1.83 by the logarithm of the mean."""
    section = {"anchors": [100], "positives": [2], "p_sum": [0.32]}
    section["neg_log_p_sum"] = [-np.log(0.3) - np.log(0.02)]
    step = {"iteration": 0, "level": {"dense": section}}
    wide = {"gamma": 2.0, "delta": 1.9}
    paper = measure_level([step], "dense", ["p3"], wide)
    reference = measure_level([step], "dense", ["p3"], {**wide, "formula": "mean_log"})
    assert paper["gamma"][0][0] == pytest.approx(1.83, abs=0.01)
    assert reference["gamma"][0][0] == pytest.approx(2.56, abs=0.01)


def test_one_gamma_for_all_levels_without_level_wise():
    steps = [level_step(0, [10, 10], [0.1, 0.2])]
    gamma = measure_level(steps, "dense", ["p3", "p4"], {"level_wise": False})["gamma"]
    assert gamma[0] == pytest.approx([-np.log(0.15)] * 2)


def test_gamma_is_free_where_the_methods_notes_say():
    assert free_range(2.0, 0.5) == pytest.approx((0.082, 0.223), abs=1e-3)


def coco(boxes, size=(640, 480)):
    images = [
        {"id": 1, "file_name": "a.jpg", "width": size[0], "height": size[1]},
        {"id": 2, "file_name": "b.jpg", "width": size[0], "height": size[1]},
    ]
    annotations = [
        {"id": i, "image_id": 1, "category_id": c, "bbox": [0, 0, w, h], "iscrowd": crowd}
        for i, (c, w, h, crowd) in enumerate(boxes, start=1)
    ]
    categories = [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def test_data_counts_areas_classes_and_levels():
    boxes = [(7, 16, 16, 0), (7, 64, 64, 0), (9, 200, 200, 0), (9, 10, 10, 1)]
    data = measure_data(
        coco(boxes), levels=["p3", "p4"], anchor_sizes=[32.0, 128.0], min_size=[240], max_size=1333
    )
    assert (data["images"], data["boxes"], data["images_without_boxes"]) == (2, 3, 1)
    assert data["areas"] == {"small": 1, "medium": 1, "large": 1}
    assert data["classes"] == [{"name": "cat", "count": 2}, {"name": "dog", "count": 1}]
    assert [entry["count"] for entry in data["levels"]] == [2, 1]  # sides 8, 32, 100 in training


def test_nearest_level_is_nearest_in_octaves():
    assert nearest_level(np.array([44.0, 46.0]), [32.0, 64.0]).tolist() == [0, 1]


def test_data_without_boxes():
    data = measure_data(coco([]), levels=["p3"], anchor_sizes=[32.0], min_size=[240])
    assert data["boxes"] == 0 and data["levels"][0]["count"] == 0
