"""The tool that turns PyPI's carrier wheel into a Detectron2 wheel."""

import subprocess
import sys
import zipfile

import pytest

from testing.scripts import load_script


@pytest.fixture(scope="module")
def tool():
    return load_script("tools/install_detectron2.py")


@pytest.fixture
def carrier(tmp_path):
    """A small wheel with a tree under the prefix, and a file of the carrier's own."""
    path = tmp_path / "carrier.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("LabGym/detectron2/__init__.py", '__version__ = "0.6"\n')
        source = "from LabGym.detectron2.layers import cat\nname = 'LabGym.detectron2.layers'\n"
        archive.writestr("LabGym/detectron2/modeling/x.py", source)
        archive.writestr("LabGym/detectron2/model_zoo/configs/Base.yaml", "VERSION: 2\n")
        archive.writestr("LabGym/gui.py", "raise RuntimeError('not ours')\n")
    return path


def test_wheel_is_the_tree_without_its_prefix_and_pip_installs_it(tool, carrier, tmp_path):
    wheel = tmp_path / "cache" / tool.WHEEL_NAME
    tool.build_wheel(carrier, wheel)
    target = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", str(target), str(wheel)], check=True)
    source = (target / "detectron2" / "modeling" / "x.py").read_text()
    assert source == "from detectron2.layers import cat\nname = 'detectron2.layers'\n"
    assert (target / "detectron2" / "model_zoo" / "configs" / "Base.yaml").is_file()
    assert not (target / "LabGym").exists() and not (target / "gui.py").exists()
    assert [p.name for p in wheel.parent.iterdir()] == [wheel.name], "a partial file was left"


def test_record_holds_the_hash_of_every_file(tool, carrier, tmp_path):
    wheel = tmp_path / tool.WHEEL_NAME
    tool.build_wheel(carrier, wheel)
    with zipfile.ZipFile(wheel) as archive:
        record = archive.read(f"{tool.DIST_INFO}/RECORD").decode()
        assert {line.split(",")[0] for line in record.splitlines()} == set(archive.namelist())
    assert tool.is_whole(wheel)


def test_wrong_hash_is_refused_before_anything_is_used(tool, carrier, tmp_path, capsys):
    code = tool.main(["--wheel-only", "--source", str(carrier), "--cache", str(tmp_path / "c")])
    said = capsys.readouterr().err
    assert code == 1
    assert "sha256" in said and tool.CARRIER_SHA256 in said
    assert not (tmp_path / "c").exists()


def test_truncated_wheel_in_the_cache_is_built_again(tool, carrier, tmp_path, monkeypatch):
    wheel = tmp_path / "cache" / tool.WHEEL_NAME
    tool.build_wheel(carrier, wheel)
    whole = wheel.read_bytes()
    wheel.write_bytes(whole[: len(whole) // 2])
    assert not tool.is_whole(wheel)
    monkeypatch.setattr(tool, "check_sha256", lambda path, expected: None)
    assert tool.get_wheel(wheel.parent, carrier).read_bytes() == whole


@pytest.mark.parametrize("version", [(3, 9), (3, 15), (2, 7)])
def test_unsupported_python_is_named(tool, version):
    with pytest.raises(tool.InstallError, match="3.10 to 3.14"):
        tool.check_python(version)


def test_no_network_is_one_clear_line(tool, repo, tmp_path):
    unreachable = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"}
    done = subprocess.run(
        [sys.executable, repo / "tools" / "install_detectron2.py", "--wheel-only"]
        + ["--cache", str(tmp_path / "cache")],
        env={"PATH": "", "HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null", **unreachable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and "check the network" in done.stderr


def test_missing_source_and_foreign_archive_are_named(tool, tmp_path, capsys):
    cache = str(tmp_path / "cache")
    assert tool.main(["--wheel-only", "--source", "nowhere.whl", "--cache", cache]) == 1
    assert "nowhere.whl: no such file" in capsys.readouterr().err
    (tmp_path / "text.whl").write_text("no zip")
    with pytest.raises(tool.InstallError, match="not a wheel"):
        tool.build_wheel(tmp_path / "text.whl", tmp_path / "out.whl")


def test_importable_detectron2_is_kept(tool, capsys):
    assert tool.main([]) == 0
    assert "keeping the detectron2" in capsys.readouterr().out
