"""Every command of the documents: its program exists and takes these arguments and these keys.

Programs of this project parse their own lines. What runs them is in ``test_commands_run.py``.
"""

import argparse
import importlib
import inspect
import re
import sys

import pytest

from testing.documents import (
    COMMANDS,
    FENCED,
    FOREIGN,
    INLINE,
    KEY,
    PAGES,
    REPO,
    SHELLS,
    commands_of,
    is_command,
    module_of,
    program_of,
    words_of,
)
from testing.scripts import load_script

LINES = [
    pytest.param(command.words, id=f"{command.page}: {' '.join(command.words)}")
    for command in COMMANDS
]
# Options that the documents name of programs of others: docker, Slurm, torchrun, pip.
OF_OTHERS = {
    "--build-arg",
    "--gpus-per-node",
    "--user",
    "--time",
    "--strict",
    "--sbatch",
    "--signal",
}
OF_OTHERS |= {"--signals-to-handle", "--no-deps", "--no-build-isolation", "--nproc-per-node"}


class Parsed(Exception):
    """Raised in the place of what a program would do with its arguments."""


def parse(script: str, argv: list[str], monkeypatch) -> tuple[argparse.Namespace, set[str]]:
    """What the program makes of its arguments, by its own parser, and the options it has."""

    def stops(original):
        def stop(self, args=None, namespace=None):
            given = argv if args is None else args
            raise Parsed(original(self, given, namespace), set(self._option_string_actions))

        return stop

    for name in ("parse_args", "parse_intermixed_args"):
        original = getattr(argparse.ArgumentParser, name)
        monkeypatch.setattr(argparse.ArgumentParser, name, stops(original))
    monkeypatch.setattr(sys, "argv", [script, *argv])
    try:
        main = loaded(script).main
        main(argv) if inspect.signature(main).parameters else main()
    except Parsed as parsed:
        return parsed.args
    raise AssertionError(f"{script} did not parse {argv}")


def loaded(script: str):
    """The module of a command, or a script as one."""
    of_the_package = script.startswith("libra_umop.")
    return importlib.import_module(script) if of_the_package else load_script(script)


@pytest.mark.parametrize("words", LINES)
def test_a_command_of_the_documents_is_understood_by_its_program(words, monkeypatch):
    from libra_umop.config.loading import load_config

    monkeypatch.chdir(REPO)
    for word in words:
        if re.match(r"(configs|tools|dev|deploy|examples|benchmarks)/[^{]*\.\w+$", word):
            assert (REPO / word).exists(), word
    if words[0] in FOREIGN:
        return
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (REPO / "Makefile").read_text(), re.M)
        assert [w for w in words[1:] if "=" not in w][0] in targets
        return
    if KEY.match(words[0]):
        load_config(config_for(words), words)
        return
    assert is_command(words, "bash"), f"{words[0]} is neither of this project nor in FOREIGN"
    script, argv = program_of(words)
    if script.endswith(".sh"):
        assert (REPO / script).is_file()
        return
    if script.startswith("examples/"):
        assert (REPO / script).is_file() and not [a for a in argv if a.startswith("-")]
        return
    args, _ = parse(script, argv, monkeypatch)
    opts = list(getattr(args, "opts", None) or [])
    if opts:
        load_config(getattr(args, "config_file", "") or "", opts)


def config_for(words: list[str]) -> str:
    """A config of the detector whose keys these are: a key of another one would be refused."""
    for part, name in {"ATSS": "umop_atss", "UMOP": "umop_atss"}.items():
        if f".{part}." in words[0]:
            return f"configs/COCO-Detection/{name}_R_50_FPN_1x.yaml"
    return "configs/COCO-Detection/libra_faster_rcnn_R_50_FPN_1x.yaml"


def options_of(script: str, monkeypatch) -> set[str]:
    """The options of a program, by its own parser."""
    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "error", lambda self, message: None)
        return parse(script, [], patch)[1]


def named_options(text: str) -> dict[str, set[str]]:
    """Options that the running text names -> the programs in whose lines they stand, or ""."""
    found: dict[str, set[str]] = {}
    for span in INLINE.findall(FENCED.sub("", text)):
        words = words_of(span.replace("...", ""))
        program = words[0] if words and is_command(words, "") else ""
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", span):
            found.setdefault(option, set()).add(program)
    return found


def test_every_option_that_the_text_names_is_one_of_a_program(monkeypatch):
    scripts = [module_of(name) for name in (*SHELLS.values(), "train")]
    scripts += ["dev/setup_environment.py", "dev/study_answer.py", "tools/install_detectron2.py"]
    ours = set().union(*(options_of(script, monkeypatch) for script in scripts))
    for page in PAGES:
        for option, programs in named_options((REPO / page).read_text()).items():
            known = ours | (OF_OTHERS if programs != {"python"} else set())
            assert option in known, (page, option)


def test_a_command_that_is_wrong_would_be_found(monkeypatch):
    from libra_umop.errors import ConfigError

    page = "```\n$ python tools/predict.py a.jpg --weight x\nout\n```\n```bash\nMODEL.NOPE 1\n```\n"
    wrong = [command.words for command in commands_of("", page)]
    assert wrong == [["python", "tools/predict.py", "a.jpg", "--weight", "x"], ["MODEL.NOPE", "1"]]
    bad_flag = ["python", "tools/predict.py", "a.jpg", "--wights", "x"]
    for words, error in ((bad_flag, SystemExit), (wrong[1], ConfigError)):
        with pytest.raises(error):
            test_a_command_of_the_documents_is_understood_by_its_program(words, monkeypatch)
    assert named_options("by `--wights`, `--no A` or `python x --y`") == {
        "--wights": {""},
        "--no": {""},
        "--y": {"python"},
    }


def test_pages_have_commands():
    assert len(COMMANDS) > 55
