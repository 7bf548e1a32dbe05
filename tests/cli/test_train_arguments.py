"""The command line of train_net.py: that of Detectron2's users, and more."""

from detectron2.engine import default_argument_parser

from libra_umop.cli.train_arguments import argument_parser

LINE = (
    "--config-file c.yaml --num-gpus 4 --num-machines 2 --machine-rank 1 --dist-url tcp://h:1"
    " --eval-only --resume SOLVER.MAX_ITER 10 OUTPUT_DIR out"
)


def test_the_arguments_of_detectron2_mean_what_they_mean_there():
    for line in ("", LINE, "SOLVER.MAX_ITER 10 --resume"):
        wanted = vars(default_argument_parser().parse_args(line.split()))
        got = vars(argument_parser().parse_args(line.split()))
        assert {key: got[key] for key in wanted} == wanted
