"""Every command of the documents: its program exists and takes these arguments and these keys.

Programs of this project parse their own lines; what other programs are called is in ``FOREIGN``,
with what tries it. Nothing is run here: that is done by the tests of the tools.
"""

import argparse
import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest

from testing.scripts import load_script

REPO = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "GETTING_STARTED.md", "MODEL_ZOO.md", "CONTRIBUTING.md", "deploy/README.md"]
PAGES += sorted(str(page.relative_to(REPO)) for page in (REPO / "docs").glob("*.md"))
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
INDENTED = re.compile(r"\n\n((?: {4}.*\n)+)")
KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)+$")
# Programs of others -> what tries the line, if anything does.
FOREIGN = {
    "pip": "dev/try_wheel.sh, and make setup in every run of the tests",
    "docker": "",
    "kubectl": "",
    "sbatch": "dev/try_slurm.sh",
    "echo": "",
    "g++": "",
    "curl": "",
    "uvicorn": "",
    "tensorboard": "",
}
# What stands for something of the reader's.
STAND_INS = {
    "CONFIG": "configs/COCO-Detection/umop_atss_R_50_FPN_1x.yaml",
    "A.yaml": "configs/quick/libra_faster_rcnn_R_18_FPN_bccd.yaml",
    "B.yaml": "configs/quick/faster_rcnn_R_18_FPN_bccd.yaml",
    "{0,1}": "0",
    "N": "2",
}


class Parsed(Exception):
    """Raised in the place of what a program would do with its arguments."""


def lines_of(text: str):
    """The command lines of a page's blocks: joined where they go on, without comment and prompt."""
    blocks = FENCED.findall(text)
    indented = INDENTED.findall(FENCED.sub("", text))
    blocks += [("bash", re.sub("^ {4}", "", block, flags=re.M)) for block in indented]
    for language, block in blocks:
        if language not in ("", "bash"):
            continue
        prompted = any(line.startswith("$ ") for line in block.splitlines())
        for line in block.replace("\\\n", " ").splitlines():
            if prompted and not line.startswith("$ "):
                continue  # what a command printed
            try:
                words = shlex.split(line.removeprefix("$ "), comments=True)
            except ValueError:  # no command, but what one printed
                continue
            while words and re.fullmatch(r"[A-Z_]+=\S+", words[0]):
                words = words[1:]  # set for this command
            if words and (language == "bash" or is_command(words, language)):
                yield [STAND_INS.get(word, word) for word in words]


def is_command(words: list[str], language: str) -> bool:
    """Whether a line calls a program, or is keys for the end of a line that does."""
    program = words[0]
    known = {"python", "libra-umop", "torchrun", "make", *FOREIGN}
    return (
        program in known
        or program.startswith("dev/")
        or (language == "bash" and bool(KEY.match(program)))
    )


COMMANDS = [
    pytest.param(words, id=f"{page}: {' '.join(words)}")
    for page in PAGES
    for words in lines_of((REPO / page).read_text())
]


def parse(script: str, argv: list[str], monkeypatch) -> argparse.Namespace:
    """What the program makes of its arguments, by its own parser."""

    def stops(original):
        def stop(self, args=None, namespace=None):
            raise Parsed(original(self, argv if args is None else args, namespace))

        return stop

    for name in ("parse_args", "parse_intermixed_args"):
        original = getattr(argparse.ArgumentParser, name)
        monkeypatch.setattr(argparse.ArgumentParser, name, stops(original))
    monkeypatch.setattr(sys, "argv", [script, *argv])
    if script.startswith("libra_umop."):
        module = importlib.import_module(script)
    else:
        module = load_script(script)
    try:
        module.main(argv)
    except Parsed as parsed:
        return parsed.args[0]
    raise AssertionError(f"{script} did not parse {argv}")


def program_of(words: list[str]) -> tuple[str, list[str]]:
    """The script, or module, that a line starts, and its arguments."""
    words = list(words)
    if words[0] == "libra-umop":
        return f"libra_umop.cli.commands.{words[1]}", words[2:]
    if words[0] == "torchrun" or words[:2] == ["python", "deploy/elastic_launch.py"]:
        from torch.distributed.run import get_args_parser

        own = words[1:] if words[0] == "torchrun" else words[2:]
        args = get_args_parser().parse_args(own)
        if args.module:
            return f"libra_umop.cli.commands.{args.training_script_args[0]}", (
                args.training_script_args[1:]
            )
        return args.training_script, args.training_script_args
    return (words[1], words[2:]) if words[0] == "python" else (words[0], words[1:])


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_of_the_documents_is_understood_by_its_program(words, monkeypatch):
    from libra_umop.config.loading import load_config

    monkeypatch.chdir(REPO)
    for word in words:
        if re.match(r"(configs|tools|dev|deploy|examples|benchmarks)/[^{]*\.\w+$", word):
            assert (REPO / word).exists(), word
    if words[0] in FOREIGN:
        tried_by = re.findall(r"\w+/\w+\.sh", FOREIGN[words[0]])
        assert all((REPO / script).is_file() for script in tried_by)
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
    script = {"train_net.py": "libra_umop.cli.commands.train"}.get(script, script)
    if script.endswith(".sh"):
        assert (REPO / script).is_file()
        return
    if script.startswith("examples/"):
        assert (REPO / script).is_file() and not [a for a in argv if a.startswith("-")]
        return
    args = parse(script, argv, monkeypatch)
    opts = list(getattr(args, "opts", None) or [])
    if opts:
        load_config(getattr(args, "config_file", "") or "", opts)


def config_for(words: list[str]) -> str:
    """A config of the detector whose keys these are: a key of another one would be refused."""
    for part, name in {"ATSS": "umop_atss", "UMOP": "umop_atss"}.items():
        if f".{part}." in words[0]:
            return f"configs/COCO-Detection/{name}_R_50_FPN_1x.yaml"
    return "configs/COCO-Detection/libra_faster_rcnn_R_50_FPN_1x.yaml"


def test_a_command_that_is_wrong_would_be_found(monkeypatch):
    from libra_umop.errors import ConfigError

    page = "```\n$ python tools/predict.py a.jpg --weight x\nout\n```\n```bash\nMODEL.NOPE 1\n```\n"
    wrong = list(lines_of(page))
    assert wrong == [["python", "tools/predict.py", "a.jpg", "--weight", "x"], ["MODEL.NOPE", "1"]]
    bad_flag = ["python", "tools/predict.py", "a.jpg", "--wights", "x"]
    for words, error in ((bad_flag, SystemExit), (wrong[1], ConfigError)):
        with pytest.raises(error):
            test_a_command_of_the_documents_is_understood_by_its_program(words, monkeypatch)


def test_pages_have_commands():
    assert len(COMMANDS) > 55
