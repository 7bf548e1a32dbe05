"""What one rank meets and a user can mend is one line and exit code 2, whatever the others do."""

import re
import socket
import time
from functools import partial
from multiprocessing.util import Finalize

import pytest
import torch.distributed as dist
from detectron2.engine.launch import _find_free_port
from detectron2.utils import comm
from test_many_processes import TORCHRUN

from libra_umop.cli.launching import launch
from libra_umop.cli.train_arguments import argument_parser
from libra_umop.errors import ConfigError
from testing.engine_runs import REPO, RETINANET, run, write_config, write_dataset

AUG = ["TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(64,)", "TEST.AUG.FLIP", "False"]
AUG += ["TEST.EVAL_PERIOD", "3"]
FULL = "No space left on device"
LAST = "the last whole checkpoint is {out}/model_final.pth, go on from it with --resume"


def a_folder_in_the_way(name):
    return lambda data, out: (out / name).mkdir(parents=True)


def an_image_that_breaks(name):
    return lambda data, out: (data / "images" / name).write_bytes(b"")


# what: accident, before the run, words of the one line
CASES = {
    "metrics, after the last step": ("FLUSH@6@0", None, [FULL, LAST]),
    "detections, with augmentation": ("EVAL@3@0", None, [FULL, LAST]),
    "config.yaml": ("", a_folder_in_the_way("config.yaml"), ["/config.yaml", "OUTPUT_DIR"]),
    "an image of the other rank": ("", an_image_that_breaks("val_2.png"), ["val_2.png"]),
}


@pytest.mark.parametrize("case", CASES)
def test_what_one_rank_meets_is_one_line(case, tmp_path):
    """Under torchrun, where whatever a rank prints is seen and no parent waits for the first."""
    accident, prepare, words = CASES[case]
    config, out = write_config(tmp_path / "config.yaml", RETINANET), tmp_path / "out"
    data = write_dataset(tmp_path / "data")
    if prepare:
        prepare(data, out)
    args = ["--config-file", config, "--dataset", data, "OUTPUT_DIR", out, *AUG]
    done = run(args, misbehave=accident, launcher=TORCHRUN)
    codes = re.findall(r"rank *: (\d).*\n *exitcode *: (\d+)", done.out)
    assert sorted(codes) in ([("0", "2"), ("1", "2")], [("0", "2")], [("1", "2")]), done.out[-3000:]
    ours = done.out.split("torch/distributed/run.py")[0]  # torchrun's own traceback follows
    assert "libra_umop/" not in ours.replace(str(REPO), ""), ours[-3000:]
    said = [line for line in done.out.splitlines() if re.match(r"\w*Error: ", line)]
    assert len(said) == 1, said
    for word in words:
        assert word.format(out=out) in said[0]


def fail_on_one_rank(rank):
    """The rank that fails lets go of the others at once, and ends seconds after them."""
    if comm.get_rank() == rank:
        Finalize(None, lambda: (dist.destroy_process_group(), time.sleep(3)), exitpriority=0)
        raise ConfigError(f"met by rank {rank}")
    dist.barrier()


@pytest.mark.parametrize("rank", [0, 1])
def test_who_ends_first_says_nothing_where_another_was_the_cause(rank, capfd):
    arguments = ["--num-gpus", "2", "--dist-url", f"tcp://127.0.0.1:{_find_free_port()}"]
    args = argument_parser().parse_args(arguments)
    assert launch(partial(fail_on_one_rank, rank), args, device="cpu") == 2
    lines = capfd.readouterr().err.splitlines()
    assert [line for line in lines if "Error" in line] == [f"ConfigError: met by rank {rank}"]
    assert not any("Traceback" in line for line in lines)


def test_a_port_that_is_taken_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        args = argument_parser().parse_args(["--num-gpus", "2", "--dist-url", url])
        with pytest.raises(ConfigError, match=f"^--dist-url is {url}, where nobody can meet: .*"):
            launch(fail_on_one_rank, args, device="cpu")
