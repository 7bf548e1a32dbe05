"""The command lines of the documents, and which of them say that they are not run."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

REPO = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "GETTING_STARTED.md", "MODEL_ZOO.md", "CONTRIBUTING.md", "deploy/README.md"]
PAGES += sorted(str(page.relative_to(REPO)) for page in (REPO / "docs").glob("*.md"))
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
INDENTED = re.compile(r"\n\n((?: {4}.*\n)+)")
INLINE = re.compile(r"`([^`\n]+)`")
KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)+$")
MARK = "# not run"
# Programs of others -> what tries the line; the others' lines are marked.
FOREIGN = {
    "pip": "dev/try_wheel.sh",  # and make setup in every run of the tests
    "sbatch": "dev/try_slurm.sh",
    "source": "dev/try_wheel.sh",
    **dict.fromkeys(["./detect", "curl", "docker", "g++", "kubectl", "tensorboard", "uvicorn"], ""),
}
# What stands for something of the reader's.
STAND_INS = {
    "CONFIG": "configs/quick/umop_atss_R_18_FPN_shapes.yaml",
    "A.yaml": "configs/quick/libra_faster_rcnn_R_18_FPN_bccd.yaml",
    "B.yaml": "configs/quick/faster_rcnn_R_18_FPN_bccd.yaml",
    "{0,1}": "0",
    "N": "2",
}
# A script in tools/ -> the command whose shell it is.
SHELLS = {
    "check_dataset": "check",
    "contact_sheet": "sheet",
    "convert_checkpoint": "convert",
    "make_shapes": "shapes",
    **{name: name for name in ("benchmark", "export", "predict", "report", "study")},
}


class Command(NamedTuple):
    """A line that calls a program, or KEY VALUE pairs for the end of one."""

    page: str
    words: list[str]
    is_marked: bool

    @property
    def is_keys(self) -> bool:
        return bool(KEY.match(self.words[0]))


def commands_of(page: str, text: str):
    """Those of a page's blocks: joined where they go on, without comment, prompt and variables.

    ``# not run`` marks its line; on a line of its own, the lines of the block below it.
    """
    blocks = FENCED.findall(text)
    indented = INDENTED.findall(FENCED.sub("", text))
    blocks += [("bash", re.sub("^ {4}", "", block, flags=re.M)) for block in indented]
    for language, block in blocks:
        if language not in ("", "bash"):
            continue
        prompted = any(line.startswith("$ ") for line in block.splitlines())
        marked = False
        for line in block.replace("\\\n", " ").splitlines():
            marked |= line.startswith(MARK)
            if prompted and not line.startswith("$ "):
                continue  # what a command printed
            for part in line.removeprefix("$ ").split(" && "):
                words = words_of(part)
                if words and (language == "bash" or is_command(words, language)):
                    yield Command(page, words, marked or MARK in line)


def words_of(line: str) -> list[str]:
    """The words of a command line; [] of one that is none."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # what a command printed
        return []
    while words and re.fullmatch(r"[A-Z_]+=\S+", words[0]):
        words = words[1:]  # set for this command
    return [STAND_INS.get(word, word) for word in words]


def is_command(words: list[str], language: str) -> bool:
    """Whether a line calls a program, or is keys for the end of a line that does."""
    program = words[0]
    known = {"python", "libra-umop", "torchrun", "make", *FOREIGN}
    is_keys = language == "bash" and bool(KEY.match(program))
    return program in known or program.startswith("dev/") or is_keys


def program_of(words: list[str]) -> tuple[str, list[str]]:
    """The module of a command, or the script, that a line starts, and its arguments."""
    words = list(words)
    if words[0] == "torchrun" or words[:2] == ["python", "deploy/elastic_launch.py"]:
        from torch.distributed.run import get_args_parser

        own = words[1:] if words[0] == "torchrun" else words[2:]
        args = get_args_parser().parse_args(own)
        if args.module:
            return module_of(args.training_script_args[0]), args.training_script_args[1:]
        words = ["python", args.training_script, *args.training_script_args]
    if words[0] == "libra-umop":
        return module_of(words[1]), words[2:]
    script, *argv = words[1:] if words[0] == "python" else words
    if script == "train_net.py":
        return module_of("train"), argv
    name = SHELLS.get(Path(script).stem, "") if script.startswith("tools/") else ""
    return (module_of(name) if name else script), argv


def module_of(command: str) -> str:
    """Where ``libra-umop COMMAND`` lives."""
    return f"libra_umop.cli.commands.{command}"


COMMANDS = [command for page in PAGES for command in commands_of(page, (REPO / page).read_text())]
