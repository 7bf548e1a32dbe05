"""Runs that version 0.1.0 began: checkpoints and configs that its own code wrote, one of each kind.

Each archive of files/ holds what its training left in OUTPUT_DIR after 4 of 6 iterations on the
rectangles of ``write_dataset``, and the sum and the norm of each tensor after all 6.
"""

import json
import zipfile

import pytest
import torch
from detectron2.modeling import BACKBONE_REGISTRY

from libra_umop import LibraPredictor
from libra_umop.cli.commands.train import main
from testing.dense_models import TinyPyramid
from testing.engine_runs import weights, write_dataset


@pytest.fixture(autouse=True, scope="module")
def pyramid():
    if "build_eight_channels_pyramid" not in BACKBONE_REGISTRY:

        @BACKBONE_REGISTRY.register()
        def build_eight_channels_pyramid(cfg, input_shape):
            return TinyPyramid(8)


@pytest.mark.parametrize("kind", ["umop_retinanet", "libra_faster_rcnn"])
def test_a_run_goes_on_to_the_weights_that_0_1_0_came_to(kind, repo, tmp_path):
    """With a balanced pyramid, averaged weights, a moving normaliser and drawn regions."""
    out = tmp_path / "out"
    with zipfile.ZipFile(repo / "tests" / "training" / "files" / f"{kind}_of_0.1.0.zip") as archive:
        archive.extractall(out)
    data = write_dataset(tmp_path / "shapes")
    args = ["--config-file", str(out / "config.yaml"), "--dataset", str(data), "--resume"]
    assert main([*args, "OUTPUT_DIR", str(out)]) == 0
    expected = json.loads((out / "final.json").read_text())
    names = {name.replace("backbone.pyramid.", "backbone."): name for name in expected}
    final = weights(out / "model_final.pth")
    assert final.keys() == names.keys()
    got = {n: [final[n].double().sum().item(), final[n].double().norm().item()] for n in names}
    torch.testing.assert_close(
        got, {n: expected[old] for n, old in names.items()}, rtol=1e-5, atol=1e-5
    )
    before = torch.load(out / "model_0000003.pth", weights_only=True)["model"]
    assert any(not torch.equal(final[n], before[old]) for n, old in names.items())
    predictor = LibraPredictor.from_weights(str(out / "model_0000003.pth"))
    assert predictor.class_names == ["red", "green"]
