"""A key is declared once: default, range, meaning; from that come defaults, checks and the page."""

import functools

import pytest
import yaml
from detectron2.config import CfgNode, get_cfg

from libra_umop import key as declarations
from libra_umop.config import add_libra_umop_config
from libra_umop.config.loading import all_keys, load_config, merge_text
from libra_umop.errors import ConfigError
from libra_umop.key import DETECTRON2S, KEYS, Key, declare
from libra_umop.ranges import AT_LEAST_1, OneOf, Range, registered
from testing.scripts import load_script


def value_of(cfg, name):
    return functools.reduce(getattr, name.split("."), cfg)


def leaves(cfg):
    return {name for name in all_keys(cfg) if not isinstance(value_of(cfg, name), CfgNode)}


def test_the_table_is_what_the_project_adds_and_what_it_checks_of_detectron2():
    ours = {name for name, key in KEYS.items() if key.default is not DETECTRON2S}
    groups = {name for name in ours if KEYS[name].default == {}}
    added = leaves(load_config("")) - leaves(get_cfg())
    assert added == ours - groups
    assert set(KEYS) - ours <= leaves(get_cfg())


def test_every_default_is_right_and_of_its_declared_type_and_every_key_of_ours_has_a_meaning():
    cfg = load_config("")
    for name, key in KEYS.items():
        value = value_of(cfg, name)
        assert key.values.refusal(value) == "", name
        if key.default is not DETECTRON2S:
            assert value == key.default and isinstance(value, type(key.default)), name
            assert key.meaning.endswith("."), name


def test_configs_share_no_default():
    one, other = load_config(""), load_config("")
    one.SOLVER.BETAS[0] = 0.5
    one.MODEL.TIMM.ARGS.depth = 3
    assert other.SOLVER.BETAS == [0.9, 0.999] and other.MODEL.TIMM.ARGS == {}
    assert KEYS["SOLVER.BETAS"].default == [0.9, 0.999]


def test_a_key_that_is_declared_is_a_default_a_check_and_a_hint(monkeypatch):
    monkeypatch.setattr(declarations, "KEYS", {})
    declare("MODEL.NOVEL", NUM_CROWDS=Key(3, AT_LEAST_1, "Crowds."))
    for name, declared in declarations.KEYS.items():
        monkeypatch.setitem(KEYS, name, declared)
    cfg = get_cfg()
    add_libra_umop_config(cfg)
    assert cfg.MODEL.NOVEL.NUM_CROWDS == 3
    with pytest.raises(ConfigError, match=r"NUM_CROWDS is 0, should be at least 1"):
        load_config("", ["MODEL.NOVEL.NUM_CROWDS", "0"])
    with pytest.raises(ConfigError, match=r"did you mean MODEL\.NOVEL\.NUM_CROWDS\?"):
        load_config("", ["MODEL.NOVEL.NUM_CROWD", "1"])


def test_a_key_cannot_be_declared_twice():
    with pytest.raises(ValueError, match=r"SOLVER\.OPTIMIZER is declared twice"):
        declare("SOLVER", OPTIMIZER=Key("SGD", OneOf(("SGD",)), "Again."))


def test_a_refusal_says_what_should_be():
    assert AT_LEAST_1.refusal(1) == "" and AT_LEAST_1.refusal(0) == ", should be at least 1"
    assert Range(lambda v: v > 0, "> 0").refusal("a") == ", should be > 0"  # a TypeError
    names = {"sum": 1}
    one_of = OneOf(names, ("",))
    assert one_of.refusal("smu") == ', should be one of "", sum; did you mean sum?'
    names["mean"] = 2  # registered later
    assert one_of.refusal("mean") == ""


def test_the_page_of_the_keys_is_up_to_date(repo):
    config_page = load_script("dev/config_page.py")
    page = config_page.PAGE.read_text()
    assert config_page.page() == page, "run dev/config_page.py"
    assert all(f"`{name.rpartition('.')[2]}`" in page or name in page for name in KEYS)
    for document in ("README.md", "GETTING_STARTED.md"):
        assert "(docs/config.md)" in (repo / document).read_text()


def test_a_registered_name_may_be_named_and_what_is_not_may_not():
    from detectron2.modeling import META_ARCH_REGISTRY

    assert registered(META_ARCH_REGISTRY).refusal("UMOPATSS") == ""
    assert "did you mean UMOPATSS?" in registered(META_ARCH_REGISTRY).refusal("UMOP_ATSS")


def test_a_config_that_version_0_1_0_wrote_loads_and_means_the_same(repo):
    """The dump of umop_atss_R_50_FPN_1x.yaml, as it lies in OUTPUT_DIR and in checkpoints."""
    path = repo / "tests" / "config" / "files" / "umop_atss_of_0.1.0.yaml"
    old = CfgNode(yaml.safe_load(path.read_text()))
    cfg = load_config(str(path))
    restored = load_config("")
    merge_text(restored, path.read_text(), "model.pth")  # as a checkpoint keeps it
    assert restored == cfg
    new = CfgNode(yaml.safe_load(cfg.dump()))  # lists for tuples, as a file has them
    assert len(leaves(old)) > 250 and leaves(old) <= leaves(new)
    for name in leaves(old):
        assert value_of(new, name) == value_of(old, name), name


def test_a_config_that_is_written_out_is_read_back_as_itself(tmp_path):
    cfg = load_config("", ["SOLVER.BETAS", "[0.8, 0.99]", "MODEL.TIMM.ARGS.window_size", "12"])
    (tmp_path / "config.yaml").write_text(cfg.dump())
    again = load_config(str(tmp_path / "config.yaml"))
    assert yaml.safe_load(again.dump()) == yaml.safe_load(cfg.dump())
