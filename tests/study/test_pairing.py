"""Two variants under one seed: equal weights where both have them, and equal data."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from study_files import write_study_files

from libra_umop.config.loading import load_config, merge_opts
from libra_umop.data.datasets import load_dataset, register
from libra_umop.data.layouts.table import find_splits
from libra_umop.levers import baseline, levers_for, switch
from libra_umop.study.pairing import PairedTrainer, _SeedEachStep, build_paired, shared_name
from testing.shrink import shrink

CONFIGS = [
    "faster_rcnn_R_50_FPN_1x",
    "cascade_rcnn_R_50_FPN_1x",
    "retinanet_R_50_FPN_1x",
    "atss_R_50_FPN_1x",
    "fcos_R_50_FPN_1x",
]


def base_config(repo, name):
    cfg = shrink(load_config(str(repo / "configs" / "COCO-Detection" / f"{name}.yaml")))
    merge_opts(cfg, [word for pair in baseline(cfg) for word in pair])
    return cfg


def switched(cfg, name):
    cfg = cfg.clone()
    merge_opts(cfg, [word for pair in switch(cfg, name) for word in pair])
    return cfg


def weights(cfg, seed):
    model = build_paired(cfg, seed, build_model)
    return {shared_name(name): tensor for name, tensor in model.named_parameters()}


@pytest.mark.parametrize("name", CONFIGS)
def test_all_weights_that_two_variants_share_start_equal(repo, name):
    cfg = base_config(repo, name)
    ours = weights(cfg, seed=1)
    torch.rand(17)  # whatever was drawn before
    for lever in levers_for(cfg):
        theirs = weights(switched(cfg, lever.name), seed=1)
        dropped = set(ours) - set(theirs)
        scores_quality = lever.name in ("qfl", "vfl")  # then there is no centerness
        assert all(scores_quality and n.startswith("head.ctrness.") for n in dropped), lever.name
        different = [n for n in set(ours) - dropped if not torch.equal(ours[n], theirs[n])]
        assert different == [], lever.name


def test_what_two_levers_add_starts_equal_too(repo):
    cfg = base_config(repo, "faster_rcnn_R_50_FPN_1x")
    bfp, libra = weights(switched(cfg, "bfp"), 1), weights(switched(cfg, "libra"), 1)
    added = set(bfp) - set(weights(cfg, 1))
    assert len(added) >= 4
    assert all(torch.equal(bfp[n], libra[n]) for n in added)


def test_weights_are_drawn_as_without_pairing_and_differ_by_seed_and_name(repo):
    cfg = base_config(repo, "atss_R_50_FPN_1x")
    plain = dict(build_model(cfg).named_parameters())
    one, two = weights(cfg, 1), weights(cfg, 2)
    for name, tensor in plain.items():
        if tensor.numel() > 2000 and tensor.std() > 0:
            assert one[name].std().item() == pytest.approx(tensor.std().item(), rel=0.15), name
            assert not torch.equal(one[name], two[name])
    drawn = [t for t in one.values() if t.numel() > 2000]
    same = [
        (a.shape, b.shape)
        for i, a in enumerate(drawn)
        for b in drawn[i + 1 :]
        if a.shape == b.shape and torch.equal(a, b)
    ]
    assert same == []


def test_building_leaves_the_global_generator_alone(repo):
    cfg = base_config(repo, "retinanet_R_50_FPN_1x")
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    build_paired(cfg, 1, build_model)
    assert torch.equal(torch.rand(2), expected)


def batches(cfg, count):
    loader = iter(PairedTrainer.build_train_loader(cfg))
    return [next(loader) for _ in range(count)]


def test_order_and_augmentation_are_the_seeds_whatever_was_drawn_before(tmp_path):
    files = write_study_files(tmp_path)
    names = register(load_dataset("drawn", find_splits(files["dataset"])), str(tmp_path / "out"))
    cfg = load_config(files["config"], ["DATASETS.TRAIN", f"('{names['train']}',)"])
    cfg.SEED = 4
    first = batches(cfg, 8)
    np.random.rand(5)
    torch.rand(7)
    other = cfg.clone()
    merge_opts(other, [word for pair in switch(other, "pfl") for word in pair])
    second = batches(other, 8)
    for batch_a, batch_b in zip(first, second, strict=True):
        for a, b in zip(batch_a, batch_b, strict=True):
            assert a["file_name"] == b["file_name"]
            assert torch.equal(a["image"], b["image"])
    cfg.SEED = 5
    third = batches(cfg, 8)
    order = [[d["file_name"] for batch in run for d in batch] for run in (first, third)]
    assert order[0] != order[1]


def test_what_a_step_draws_does_not_depend_on_what_the_one_before_drew():
    hook = _SeedEachStep(seed=1)
    draws = {}
    for greedy in (0, 1000):
        for iteration in range(3):
            hook.trainer = SimpleNamespace(iter=iteration)
            hook.before_step()
            draws[greedy, iteration] = (torch.rand(3), np.random.rand(3))
            torch.rand(greedy)
    for iteration in range(3):
        for a, b in zip(draws[0, iteration], draws[1000, iteration], strict=True):
            assert (a == b).all()
    assert not torch.equal(draws[0, 0][0], draws[0, 1][0])
