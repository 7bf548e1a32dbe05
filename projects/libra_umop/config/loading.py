"""Reading configs without running anything in them, and with words that help when one is wrong.

Detectron2's ``merge_from_file`` evaluates the Python tags of YAML by default; here only plain YAML
is read, in the file and in every ``_BASE_`` of it. A key that no one has declared is answered with
the nearest one that exists.
"""

import contextlib
import difflib
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.utils.file_io import PathManager
from fvcore.common.config import BASE_KEY

from ..errors import ConfigError, found_instead
from ..ranges import is_number
from ..utils.shipped_configs import find_config, shipped_config, shipped_names
from .checks import check_together, check_values
from .keys import add_libra_umop_config

COMMAND_LINE = "command line"


class Layers(NamedTuple):
    """A config, and from which layer its values come.

    Attributes:
        cfg: Detectron2's defaults, this project's keys, the file's bases, the file, the command
            line, in this order; not frozen. What a dataset decides is written into it.
        file: the same without the command line.
        in_file: names of the keys that stand in the file itself, not in a ``_BASE_`` of it.
        given: names of the keys that stand on the command line.
        source: the file, for messages; "" for none.
    """

    cfg: CfgNode
    file: CfgNode
    in_file: frozenset[str] = frozenset()
    given: frozenset[str] = frozenset()
    source: str = ""


def get_config(name: str, opts: Sequence[str] = ()) -> CfgNode:
    """One of the configs that come with the project, as :func:`load_config` loads it.

    Args:
        name: below ``configs/``, as "COCO-Detection/umop_atss_R_50_FPN_1x.yaml".
        opts: ``KEY value KEY value ...`` as on a command line.

    Raises:
        ConfigError: there is none of that name, or as :func:`load_config`.
    """
    path = shipped_config(name)
    if path is None:
        raise ConfigError(f"no config of this project is named {name!r}{_nearest_shipped(name)}")
    return load_config(str(path), opts)


def load_config(config_file: str, opts: Sequence[str] = ()) -> CfgNode:
    """Detectron2's defaults, this project's keys, ``config_file`` and ``opts``, in this order.

    Args:
        config_file: a YAML file, with ``_BASE_`` if it likes; empty for none. Where there is no
            such file, the one that :func:`get_config` knows by this name.
        opts: ``KEY value KEY value ...`` as on a command line.

    Returns:
        The config, not frozen.

    Raises:
        ConfigError: naming the file, the key, its value and what would be right.
    """
    layers = load_layers(config_file, opts)
    check_together(layers.cfg, layers.source)
    return layers.cfg


def load_layers(config_file: str, opts: Sequence[str] = ()) -> Layers:
    """As :func:`load_config`, but what keys mean for each other is not checked yet.

    Who changes some, as a dataset does, calls :func:`check_together` in the end.
    """
    cfg = get_cfg()
    add_libra_umop_config(cfg)
    source = find_config(config_file) if config_file else ""
    chain = _with_bases(source) if source else []
    for filename, content in chain:
        version = content.get("VERSION", cfg.VERSION)
        if version != cfg.VERSION:
            raise ConfigError(f"{filename}: VERSION is {version!r}, should be {cfg.VERSION}")
        _merge(content, cfg, cfg, filename)
    file = cfg.clone()
    merge_opts(cfg, opts)
    given = frozenset(list(opts or ())[::2])
    _drop_late_steps(cfg, given)
    check_values(cfg, source)
    in_file = frozenset(_leaves(chain[-1][1])) if chain else frozenset()
    return Layers(cfg, file, in_file, given, source)


def _nearest_shipped(name: str) -> str:
    """``"; did you mean X?"`` with the nearest name below ``configs/``."""
    names = shipped_names()
    leaf = PurePosixPath(name).name
    near = [n for n in names if n.endswith(f"/{leaf}")] or difflib.get_close_matches(name, names)
    return f"; did you mean {near[0]}?" if near else ""


def _drop_late_steps(cfg: CfgNode, given: Collection[str]) -> None:
    """Leave out the file's ``SOLVER.STEPS`` beyond a ``SOLVER.MAX_ITER`` of the command line.

    So a shorter run is asked for by one key.
    """
    if "SOLVER.MAX_ITER" in given and "SOLVER.STEPS" not in given:
        steps = [s for s in cfg.SOLVER.STEPS if not is_number(s) or s < cfg.SOLVER.MAX_ITER]
        cfg.SOLVER.STEPS = tuple(steps)


def merge_opts(cfg: CfgNode, opts: Sequence[str]) -> None:
    """Merge ``KEY value`` pairs into ``cfg``; values as text or as they are."""
    opts = list(opts or ())
    behind = [text for text in opts if str(text).startswith("--")]
    if behind:
        raise ConfigError(
            f"{COMMAND_LINE}: {behind[0]} stands behind KEY value pairs; options stand before the"
            " keys"
        )
    if len(opts) % 2:
        raise ConfigError(f"{COMMAND_LINE}: {opts[-1]!r} has no value; give KEY value pairs")
    for key, value in zip(opts[::2], opts[1::2], strict=True):
        content: Any = value
        for part in reversed(key.split(".")):
            content = {part: content}
        _merge(content, cfg, cfg, COMMAND_LINE)


def merge_text(cfg: CfgNode, text: str, filename: str) -> None:
    """Merge YAML ``text``, as a checkpoint keeps it, into ``cfg``; ``filename`` is for messages."""
    _merge(_parse(text, filename), cfg, cfg, filename)


def all_keys(cfg: CfgNode, prefix: str = "") -> Iterator[str]:
    """The dotted names of all keys and groups of ``cfg``."""
    for key, value in cfg.items():
        yield f"{prefix}{key}"
        if isinstance(value, CfgNode):
            yield from all_keys(value, f"{prefix}{key}.")


def _leaves(content: Any, prefix: str = "") -> Iterator[str]:
    """The dotted names of what is no group in nested ``content``."""
    if not isinstance(content, dict):
        yield prefix[:-1]
        return
    for key, value in content.items():
        yield from _leaves(value, f"{prefix}{key}.")


def _with_bases(filename: str, children: tuple[str, ...] = ()) -> list[tuple[str, dict]]:
    """``(file, content)`` of the bases of a config file, outermost first, and of itself."""
    if filename in children:
        raise ConfigError(f"{filename}: is a {BASE_KEY} of itself")
    content = _read(filename, children)
    bases = content.pop(BASE_KEY, [])
    chain = []
    for base in [bases] if isinstance(bases, str) else bases:
        path = os.path.expanduser(base)
        if "://" not in path:
            path = os.path.normpath(os.path.join(os.path.dirname(filename), path))
        chain += _with_bases(path, children + (filename,))
    return chain + [(filename, content)]


def _read(filename: str, children: tuple[str, ...]) -> dict:
    try:
        with PathManager.open(filename, "r") as f:
            text = f.read()
    except (OSError, UnicodeDecodeError) as e:
        asked = f" ({BASE_KEY} of {children[-1]})" if children else ""
        raise ConfigError(f"{filename}{asked}: cannot be read as a config: {e}") from e
    return _parse(text, filename)


def _parse(text: str, filename: str) -> dict:
    """Plain YAML of a mapping; tags that would build Python objects are refused."""
    instead = found_instead(text[:64].encode())
    if instead:
        raise ConfigError(f"{filename}: {instead}")
    try:
        content = yaml.safe_load(text)
        refuse_repeated_keys(text, filename)
    except yaml.constructor.ConstructorError as e:
        line = e.problem_mark.line + 1 if e.problem_mark else "?"
        raise ConfigError(
            f"{filename}, line {line}: {e.problem}; only plain YAML is read, nothing in it is run"
        ) from e
    except yaml.YAMLError as e:
        raise ConfigError(f"{filename}: is not YAML: {' '.join(str(e).split())}") from e
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise ConfigError(f"{filename}: holds a {type(content).__name__}, should hold KEY: value")
    return content


def refuse_repeated_keys(text: str, filename: str) -> None:
    """Of a key that stands twice, as SOLVER: in two places, the last one would win in silence.

    Raises:
        ConfigError: the first such key, with both lines.
        yaml.YAMLError: it is not YAML.
    """
    nodes = [yaml.compose(text, yaml.SafeLoader)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        if not isinstance(node, yaml.MappingNode):
            continue
        lines: dict[str, int] = {}
        for key, value in node.value:
            line, name = key.start_mark.line + 1, str(key.value)
            if name in lines:
                raise ConfigError(
                    f"{filename}, line {line}: {name} stands in line {lines[name]} already;"
                    " should be there once, with all that belongs to it"
                )
            lines[name] = line
            nodes.append(value)


def _merge(content: dict, node: CfgNode, root: CfgNode, source: str, prefix: str = "") -> None:
    """Merge nested ``content`` into ``node``, whose dotted name is ``prefix``, key by key."""
    for key, value in content.items():
        name = f"{prefix}{key}"
        known = key in node
        if not known and root.key_is_deprecated(name):
            continue
        if not known and not node.is_new_allowed():
            raise ConfigError(f"{source}: no key is named {name}{_nearest_key(name, root)}")
        if known and isinstance(node[key], CfgNode):
            if not isinstance(value, dict):
                raise ConfigError(f"{source}: {name} is {value!r}, should be a group of keys")
            _merge(value, node[key], root, source, f"{name}.")
        else:
            _merge_value(key, value, node, source, name)


def _merge_value(key: str, value: Any, node: CfgNode, source: str, name: str) -> None:
    """Set one key with yacs's own type rules, but for two.

    An int serves as a float, and where a text is wanted, digits are one.
    """
    old, given = node.get(key), value
    value = node._decode_cfg_value(value)
    if isinstance(old, str) and value is not None and not isinstance(value, str):
        is_digits = type(given) in (int, float)  # as YAML reads them
        value = str(given) if is_digits else given
    if isinstance(old, str) and isinstance(value, str):
        node[key] = value  # yacs would read it as Python once more
        return
    if isinstance(old, float) and type(value) in (int, str):
        with contextlib.suppress(ValueError):  # an int, "nan": the ranges have the last word
            value = float(value)
    try:
        node.merge_from_other_cfg(CfgNode({key: value}))
    except (AssertionError, KeyError, ValueError) as e:
        raise ConfigError(
            f"{source}: {name} is {value!r} ({type(value).__name__}),"
            f" should be {type(old).__name__} like {old!r}"
        ) from e


def _nearest_key(name: str, root: CfgNode) -> str:
    """``"; did you mean X?"`` with the nearest declared key, or nothing if none is near."""
    keys = list(all_keys(root))
    if name in keys:
        return "; in a file its parts stand below each other, SOLVER: and, indented, BASE_LR:"
    leaf = name.rsplit(".", 1)[-1]
    same_leaf = [key for key in keys if key.rsplit(".", 1)[-1] == leaf]
    near = difflib.get_close_matches(name, keys, n=1, cutoff=0.8)
    near = near or difflib.get_close_matches(name, same_leaf or keys, n=1, cutoff=0.4)
    return f"; did you mean {near[0]}?" if near else ""
