"""The matrix of a study: which rows there are, in which order, and what is refused."""

import argparse
from pathlib import Path

import pytest
import torch
import yaml
from study_files import write_study_files

from libra_umop.config.loading import load_config
from libra_umop.errors import ConfigError
from libra_umop.levers import active, levers_for
from libra_umop.study.plan import make_plan
from libra_umop.study.records import write_record
from libra_umop.study.run import check_unchanged
from libra_umop.study.variants import parse_variants


def config(repo, name):
    return load_config(str(repo / "configs" / "COCO-Detection" / f"{name}.yaml"))


def keys_of(cfg, variant):
    from libra_umop.config.loading import merge_opts

    cfg = cfg.clone()
    merge_opts(cfg, [word for pair in variant.keys for word in pair])
    return cfg


def test_baseline_has_all_levers_off_and_a_row_its_own_on(repo):
    cfg = config(repo, "libra_faster_rcnn_R_50_FPN_1x")
    rows = parse_variants(cfg, "sampling,bfp,balanced_l1+bfp,libra")
    assert [row.name for row in rows] == ["baseline", "sampling", "bfp", "balanced_l1+bfp", "libra"]
    on = [set(active(keys_of(cfg, row))) for row in rows]
    samplers = {"iou_sampling", "instance_sampling"}
    assert on == [
        set(),
        samplers,
        {"bfp"},
        {"bfp", "balanced_l1"},
        samplers | {"bfp", "balanced_l1"},
    ]


def test_a_lever_that_needs_another_brings_it_along(repo):
    cfg = config(repo, "umop_atss_R_50_FPN_1x")
    rows = parse_variants(cfg, "pfl,lrp")
    assert [row.name for row in rows] == ["baseline", "pfl", "pfl+lrp"]
    assert set(active(keys_of(cfg, rows[2]))) == {"pfl", "lrp"}


@pytest.mark.parametrize("name", ["faster_rcnn_R_50_FPN_1x", "retinanet_R_50_FPN_1x"])
def test_without_names_all_levers_of_the_detector_are_rows(repo, name):
    cfg = config(repo, name)
    rows = parse_variants(cfg, "")
    base = keys_of(cfg, rows[0])
    assert [row.name for row in rows[1:]] == [lever.name for lever in levers_for(base)]


def test_a_file_adds_rows_of_ones_own(repo, tmp_path):
    path = tmp_path / "mine.yaml"
    rows = {"log": {"levers": "pfl+lrp", "title": "mean of logs", "MODEL.UMOP.FOCUS": "mean_log"}}
    rows["w"] = {"SOLVER": {"BASE_LR": 0.02}}
    path.write_text(yaml.safe_dump(rows))
    cfg = config(repo, "atss_R_50_FPN_1x")
    _, log, w = parse_variants(cfg, str(path))
    assert (log.name, log.title) == ("log", "mean of logs")
    made = keys_of(cfg, log)
    assert set(active(made)) == {"pfl", "lrp"} and made.MODEL.UMOP.FOCUS == "mean_log"
    assert keys_of(cfg, w).SOLVER.BASE_LR == 0.02 and w.title == "SOLVER.BASE_LR 0.02"


def test_as_is_keeps_the_levers_of_the_config(repo):
    cfg = config(repo, "umop_atss_R_50_FPN_1x")
    rows = parse_variants(cfg, "bfp", as_is=True)
    assert set(active(keys_of(cfg, rows[0]))) == {"pfl", "lrp"}
    assert set(active(keys_of(cfg, rows[1]))) == {"pfl", "lrp", "bfp"}


@pytest.mark.parametrize(
    "spec, words",
    [
        ("smapling", "should be one of .*sampling"),
        ("pfl", "no such lever"),
        ("bfp,bfp", "'bfp' is there twice"),
        (",", "names nothing"),
        ("missing.yaml", "missing.yaml cannot be read"),
    ],
)
def test_rows_that_cannot_be_had_are_named(repo, spec, words):
    with pytest.raises(ConfigError, match=words):
        parse_variants(config(repo, "faster_rcnn_R_50_FPN_1x"), spec)


@pytest.mark.parametrize(
    "text, words",
    [
        ("- a\n- b\n", "holds no rows"),
        ("a: 1\n", "row 'a' is 1"),
        ("a: {MODEL.UMOP.DELTAA: 0.1}\n", "did you mean MODEL.UMOP.DELTA"),
        ("a/b: {SOLVER.BASE_LR: 0.1}\n", "'a/b' should be letters"),
        ("a: [\n", "is not YAML"),
        ("a: {SEED: 1}\na: {SEED: 2}\n", "line 2: a stands in line 1 already"),
    ],
)
def test_files_of_rows_that_are_wrong_are_named(repo, tmp_path, text, words):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        parse_variants(config(repo, "atss_R_50_FPN_1x"), str(path))


@pytest.fixture
def arguments(tmp_path):
    """A function to the arguments of a study in ``tmp_path``."""
    files = write_study_files(tmp_path)

    def make(*opts, **changes):
        values = dict(
            output=str(tmp_path / "study"), dataset=[files["dataset"]], config_file=files["config"],
            levers="pfl", as_is=False, seeds=2, first_seed=1, epochs=None, strict=False,
            fit_anchors=False, fit_image_size=False, split=None, split_seed=0, opts=list(opts),
        )  # fmt: skip
        return argparse.Namespace(**{**values, **changes})

    return make


def test_runs_are_ordered_seed_by_seed_and_each_has_its_own_folder(arguments):
    plan = make_plan(arguments())
    assert [(run.variant, run.seed) for run in plan.runs] == [
        ("baseline", 1),
        ("pfl", 1),
        ("baseline", 2),
        ("pfl", 2),
    ]
    assert len({run.folder for run in plan.runs}) == 4
    assert all(run.seed == run.cfg.SEED for run in plan.runs)
    assert plan.runs[0].cfg.MODEL.ATSS.NUM_CLASSES == 4  # from the data


def test_changed_config_is_named_and_an_equal_one_is_not(arguments):
    run = make_plan(arguments()).runs[0]
    write_record(run.folder, {"status": "done", "config": run.cfg.dump()})
    check_unchanged(run)
    moved = make_plan(arguments("DATALOADER.NUM_WORKERS", "2")).runs[0]
    check_unchanged(moved)
    changed = make_plan(arguments("SOLVER.BASE_LR", "0.5")).runs[0]
    with pytest.raises(ConfigError, match="SOLVER.BASE_LR was 0.001, is 0.5"):
        check_unchanged(changed)


def test_where_there_are_gpus_planning_starts_no_cuda(arguments, monkeypatch):
    """It would not live on in the processes that are forked for the runs."""

    def start_cuda(*args):
        raise AssertionError("CUDA was started")

    for name in ("is_available", "get_rng_state_all", "_lazy_init"):
        monkeypatch.setattr(torch.cuda, name, start_cuda)
    args = arguments(opts=[])
    text = Path(args.config_file).read_text()
    Path(args.config_file).write_text(text.replace('DEVICE: "cpu"', 'DEVICE: "cuda"'))
    plan = make_plan(args, gpus=1)
    assert {run.cfg.MODEL.DEVICE for run in plan.runs} == {"cuda"}


@pytest.mark.parametrize("key", ["SEED", "OUTPUT_DIR"])
def test_what_the_study_sets_cannot_be_given(arguments, key):
    with pytest.raises(ConfigError, match=f"{key} is the study's to set"):
        make_plan(arguments(key, "3"))


def test_two_data_sets_of_one_name_are_refused(arguments):
    args = arguments()
    with pytest.raises(ConfigError, match="two folders called 'shapes'"):
        make_plan(arguments(dataset=args.dataset * 2))
