"""Files that tools write: tried first, named when they fail, whole whenever a program ends."""

import errno
import json
import resource
import signal
import subprocess
import sys

import pytest

from libra_umop.cli.exit_codes import exit_code_of
from libra_umop.utils.output_files import (
    GrowingFile,
    OutputError,
    check_writable,
    check_writable_folder,
    writing,
)


def test_a_try_leaves_files_as_they_were(tmp_path):
    (tmp_path / "old.csv").write_text("kept")
    check_writable(tmp_path / "old.csv", tmp_path / "new" / "out.json", None)
    assert (tmp_path / "old.csv").read_text() == "kept"
    assert list((tmp_path / "new").iterdir()) == []


def test_what_cannot_be_written_is_named_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    for file in (tmp_path / "file" / "out.json", tmp_path):
        with pytest.raises(OutputError, match=str(file)):
            check_writable(file)
    with pytest.raises(OutputError, match="file"):
        check_writable_folder(tmp_path / "file")


def test_a_full_disk_is_named_with_the_file():
    with pytest.raises(OutputError, match="No space left.*/dev/full") as raised:
        with writing("/dev/full"), open("/dev/full", "w") as f:
            f.write("x")
    assert raised.value.errno == errno.ENOSPC


def test_a_growing_file_is_whole_after_each_call(tmp_path):
    file = GrowingFile(tmp_path / "list.json", head="[", tail="\n]\n")
    assert json.loads(file.file.read_text()) == []
    for i in range(3):
        file.append(f"{',' if i else ''}\n{i}")
        assert json.loads(file.file.read_text()) == list(range(i + 1))
    file.close()


def test_a_growing_file_keeps_what_it_held_when_the_disk_is_full(tmp_path):
    """The limit of a file's size stands for the disk's."""
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    file = GrowingFile(tmp_path / "list.json", head="[", tail="\n]\n")
    file.append('\n"kept"')
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
    try:
        with pytest.raises(OutputError, match="list.json"):
            file.append(',\n"' + 2000 * "x" + '"')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert json.loads(file.file.read_text()) == ["kept"]


def test_a_pipe_gets_the_same_text():
    code = """
from libra_umop.utils.output_files import GrowingFile
file = GrowingFile("/dev/stdout", head="[", tail="]")
file.append("1")
file.append(",2")
file.close()
"""
    out = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout
    assert json.loads(out) == [1, 2]


@pytest.mark.parametrize(
    "error, code, line",
    [
        (OSError(errno.ENOSPC, "No space left on device", "x.pth"), 2, "x.pth"),
        (PermissionError(errno.EACCES, "Permission denied", "x.json"), 2, "x.json"),
        (KeyboardInterrupt(), 130, "Ctrl-C"),
    ],
)
def test_the_system_and_ctrl_c_end_a_tool_with_one_line(capsys, error, code, line):
    @exit_code_of
    def main():
        raise error

    with pytest.raises(SystemExit) as raised:
        main()
    err = capsys.readouterr().err
    assert raised.value.code == code and line in err and err.count("\n") == 1


def test_an_os_error_without_a_number_keeps_its_traceback():
    @exit_code_of
    def main():
        raise OSError("a library's own")

    with pytest.raises(OSError, match="own"):
        main()
