"""The report tool: text, JSON and a page that needs nothing but a browser."""

import json
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from libra_umop.config.loading import load_config
from libra_umop.imbalance import records

pytest.importorskip("plotly", reason="plotly is not installed (extra plots)")
pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed (extra plots)")

REPO = Path(__file__).resolve().parents[2]
LEVELS = ["p3", "p4", "p5"]
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=20000",
    "--dump-dom",
]


def histogram(first, rest):
    return [first] + [rest] * 19 + [0] * 20


def measured_step(iteration, *, dense):
    errors = {"count": [5] * 101, "gradient": [1 / 101] * 101}
    names = ["p2", *LEVELS] if not dense else LEVELS
    ones = [1.0] * len(names)
    step = {
        "iteration": iteration,
        "seconds": 0.002,
        "step_seconds": 0.2,
        "feature": {
            "levels": names,
            "before": ones,
            "after": ones,
            "gain": ones,
            "share": [1 / len(names)] * len(names),
            "cosine": ones,
        },
        "objective": {"dense" if dense else "roi_heads": errors},
        "level": {
            "dense" if dense else "rpn": {
                "anchors": [1000, 1000, 10],
                "positives": [14, 1, 0],
                "p_sum": [1.4, 0.5, 0.0],
                "neg_log_p_sum": [30.0, 1.0, 0.0],
                "gradient_positives": [0.2, 0.1, 0.0],
                "gradient_negatives": [0.5, 0.1, 0.1],
            }
        },
    }
    if not dense:
        step["sample"] = {
            "all": histogram(70, 2),
            "random": histogram(70, 2),
            "hard_among": "all",
            "picked": histogram(40, 3),
            "hard": histogram(30, 4),
        }
    return step


def write_dataset(root, num_images=4, classes=("cat & co", "dog")):
    """COCO-form images of grey, one box each."""
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    images, annotations = [], []
    for i in range(1, num_images + 1):
        name = f"<{i}>.jpg" if i == 1 else f"{i}.jpg"
        Image.new("RGB", (64, 48), (90, 90, 90)).save(root / "images" / name)
        images.append({"id": i, "file_name": name, "width": 64, "height": 48})
        annotations.append(
            {
                "id": i,
                "image_id": i,
                "category_id": 1 + i % 2,
                "iscrowd": 0,
                "bbox": [4 * i, 4, 20, 20],
                "area": 400,
            }
        )
    categories = [{"id": i, "name": name} for i, name in enumerate(classes, start=1)]
    coco = {"images": images, "annotations": annotations, "categories": categories}
    for split in ("train", "val"):
        (root / "annotations" / f"{split}.json").write_text(json.dumps(coco))
    return root


def write_run(folder, dataset, *, dense=False, ap=30.0, knows_data=True, ap_of="dog"):
    """What a training with the collector leaves in OUTPUT_DIR."""
    (folder / "inference").mkdir(parents=True)
    lines = [
        {"iteration": i, "total_loss": 2.0 / (i + 1), "loss_cls": 1.0} for i in range(0, 60, 20)
    ]
    lines[-1].update(
        {"bbox/AP": ap, "bbox/AP50": ap + 20, "bbox/APs": float("nan"), f"bbox/AP-{ap_of}": ap}
    )
    (folder / "metrics.json").write_text("\n".join(json.dumps(line) for line in lines))
    entry = {
        "name": "x",
        "json_file": str(dataset / "annotations" / "val.json"),
        "image_root": str(dataset / "images"),
    }
    detector = "retinanet" if dense else "faster_rcnn"
    config = REPO / "configs" / "COCO-Detection" / f"{detector}_R_50_FPN_1x.yaml"
    (folder / "config.yaml").write_text(load_config(str(config)).dump())
    settings = records.empty_settings()
    head = "dense" if dense else "roi_heads"
    settings["box_losses"][head] = {"type": "smooth_l1", "beta": 1.0}
    settings["sampler"] = None if dense else "random"
    settings["focus"] = {"gamma": 2.0, "progressive": False} if dense else None
    records.write_meta(
        folder,
        {
            "detector": "RetinaNet" if dense else "GeneralizedRCNN",
            "class_names": ["cat & co", "dog"],
            "levels": {"dense" if dense else "rpn": LEVELS},
            "settings": settings,
            "anchor_sizes": {"dense" if dense else "rpn": [32.0, 64.0, 128.0]},
            "datasets": {"train": [entry], "test": [entry]} if knows_data else {},
            "min_size": [48],
            "max_size": 100,
        },
    )
    for i in range(0, 60, 20):
        records.append_step(folder, measured_step(i, dense=dense))
    found = [
        {"image_id": i, "category_id": 1 + i % 2, "bbox": [4 * i, 4, 20, 20], "score": 0.9}
        for i in (1, 2, 3)
    ]
    found.append({"image_id": 4, "category_id": 2, "bbox": [0, 0, 9, 9], "score": 0.8})
    (folder / "inference" / "coco_instances_results.json").write_text(json.dumps(found))
    return folder


@pytest.fixture(scope="module")
def reported(repo, tool, tmp_path_factory):
    """The report of an R-CNN and a dense run: folder of the files, and what was printed."""
    import contextlib
    import io

    root = tmp_path_factory.mktemp("report")
    dataset = write_dataset(root / "data")
    runs = [
        write_run(root / "plain <1>", dataset),
        write_run(root / "retina", dataset, dense=True, ap=32.5, knows_data=False),
    ]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = tool("report").main([*map(str, runs), "--output", str(root / "r.html")])
    assert code == 0
    return root, printed.getvalue()


def test_findings_are_printed_with_their_switches(reported):
    text = reported[1]
    assert "retina has 32.5 AP, plain <1> 30.0: +2.5" in text
    assert "Level P4 has 0.1 % positives among its anchors against 1.4 % at P3" in text
    assert "try pfl_lrp_mean: MODEL.META_ARCHITECTURE LibraRetinaNet MODEL.RETINANET" in text
    assert "try iou_sampling: MODEL.ROI_HEADS.NAME LibraROIHeads" in text
    assert "may not help" in text and "r.html" in text


def test_json_has_findings_and_numbers_and_no_nan(reported):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    content = json.loads((reported[0] / "r.json").read_text(), parse_constant=refuse)
    assert {f["imbalance"] for f in content["findings"]} >= {
        "sample",
        "objective",
        "level",
        "data",
        "comparison",
    }
    assert [run["name"] for run in content["runs"]] == ["plain <1>", "retina"]
    assert content["ap_table"][0] == {"name": "AP", "values": [30, 32.5], "differences": [0, 2.5]}
    assert content["runs"][0]["sample"]["hard"]["share_above"] > 0.6


def test_page_is_one_file_that_fetches_nothing(reported):
    page = (reported[0] / "r.html").read_text()
    start = page.index("<script>")
    own = page[:start] + page[page.index("</script>", start) :]  # without plotly.js itself
    assert page.count("* plotly.js v") == 1
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", own)
    assert "http://" not in own.replace("http://www.w3.org/2000/svg", "") and "https://" not in own
    assert "default-src 'none'" in own


def test_page_shows_every_part(reported):
    page = (reported[0] / "r.html").read_text()
    anchors = ("findings", "sample", "feature", "objective", "level", "data", "runs", "images")
    for anchor in anchors:
        assert f'id="{anchor}"' in page and f'href="#{anchor}"' in page, anchor
    assert page.count("Plotly.newPlot(") > 20
    assert page.count("<svg viewBox") == 8  # four images, as each run sees them
    assert page.count("data:image/jpeg;base64,") == 8


def test_names_of_users_are_escaped(reported):
    page = (reported[0] / "r.html").read_text()
    body = page[page.index("<header>") : page.index('<div class="grid">')]
    assert "plain &lt;1&gt;" in body and "plain <1>" not in body
    assert "&lt;1&gt;.jpg" in page


class Elements(HTMLParser):
    """The tags of a page, counted, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = Counter(), ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1

    def handle_data(self, data):
        self.text += data


def test_names_that_are_scripts_stay_text_wherever_the_page_has_them(tool, tmp_path):
    """A page of such names has the elements of one with harmless names, and not one more."""
    elements = []
    for i, evil in enumerate(("", "<script>alert('1')</script><b title=\"x\">")):
        classes = [f"cat{evil}", f"dog{evil}"]
        dataset = write_dataset(tmp_path / f"data {i}", classes=classes)
        runs = [
            write_run(tmp_path / f"{i}{j}", dataset, dense=bool(j), ap_of=classes[1])
            for j in range(2)
        ]
        output, names = tmp_path / f"{i}.html", [f"one{evil}", f"two{evil}"]
        arguments = [*map(str, runs), "--names", *names, "--output", str(output)]
        assert tool("report").main(arguments) == 0
        elements.append(Elements(output.read_text()))
    harmless, evil = elements
    assert evil.tags == harmless.tags
    assert evil.text.count("one<script>alert('1')</script>") > 3
    assert evil.text.count("cat<script>alert('1')</script>") > 3


def test_one_run_goes_to_its_own_folder(reported, tool, tmp_path, capsys):
    run = write_run(tmp_path / "alone", reported[0] / "data", dense=True)
    assert tool("report").main([str(run), "--names", "mine"]) == 0
    assert (run / "report.html").is_file() and "mine" in (run / "report.html").read_text()
    assert "[level, large] Level P4" in capsys.readouterr().out


def test_a_plain_run_without_the_collector_gets_its_data_from_the_command_line(
    reported, tool, tmp_path, capsys
):
    run = write_run(tmp_path / "plain", reported[0] / "data")
    shutil.rmtree(run / records.FOLDER)
    assert tool("report").main([str(run), "--dataset", str(reported[0] / "data")]) == 0
    page = (run / "report.html").read_text()
    assert 'id="images"' in page and 'id="data"' in page and 'id="sample"' not in page
    assert "4 boxes in 4 training images" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["nowhere"], "nowhere is not a folder"),
        (["{run}", "--names", "a", "b"], "2 names for 1 runs"),
    ],
)
def test_what_a_user_can_mend_is_one_line(reported, tool, capsys, arguments, says):
    arguments = [a.format(run=reported[0] / "retina") for a in arguments]
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(tool("report").main(arguments))
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_no_arguments_print_the_help(tool, capsys):
    assert tool("report").main([]) == 2
    assert "OUTPUT_DIR" in capsys.readouterr().out


def test_collects_without_a_full_run(repo, tool, tmp_path, capsys):
    from libra_umop.data.shapes import write_shapes

    write_shapes(tmp_path / "shapes", num_train=4, num_val=2, size=64, seed=0)
    config = repo / "configs" / "quick" / "umop_retinanet_R_18_FPN_shapes.yaml"
    opts = [
        "OUTPUT_DIR",
        str(tmp_path / "out"),
        "SOLVER.IMS_PER_BATCH",
        "2",
        "SEED",
        "1",
        "INPUT.MIN_SIZE_TRAIN",
        "(64,)",
        "MODEL.FPN.OUT_CHANNELS",
        "64",
        "MODEL.DEVICE",
        "cpu",
    ]
    arguments = [
        "--dataset",
        str(tmp_path / "shapes"),
        "--config-file",
        str(config),
        "--iterations",
        "2",
        "--opts",
        *opts,
    ]
    assert tool("report").main(arguments) == 0
    assert len(records.read_steps(tmp_path / "out")) == 2
    assert "[level" in capsys.readouterr().out and (tmp_path / "out" / "report.html").is_file()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to open the page with")
def test_page_draws_every_plot_in_chromium_without_a_console_message(reported, tmp_path):
    page = (reported[0] / "r.html").resolve()
    done = subprocess.run(
        [CHROMIUM, *CHROMIUM_FLAGS, f"--user-data-dir={tmp_path}", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=240,
    )
    own = done.stdout[done.stdout.index("<header") :]
    num_figures = len(re.findall(r"Plotly\.newPlot\(\s*\"figure-", page.read_text()))
    assert num_figures > 20
    assert own.count("js-plotly-plot") == num_figures
    assert own.count('class="main-svg"') >= num_figures
    assert "CONSOLE" not in done.stderr, done.stderr
