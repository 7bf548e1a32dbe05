"""Errors that a user can mend are one line, whatever their names hold."""

import pytest
from torch.utils.data import DataLoader, Dataset

from libra_umop.cli.exit_codes import exit_code_of
from libra_umop.errors import ConfigError, DatasetError, one_line


@pytest.mark.parametrize(
    "text, line",
    [
        ("a.png: is empty", "a.png: is empty"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[31mred\x07\x7f\x9b", "\\x1b[31mred\\x07\\x7f\\x9b"),
        ("a\u2028b\u2029c\x85d", "a\\u2028b\\u2029c\\x85d"),
        ("Gr\u00f6\u00dfe \u65e5\u672c \U0001f468\u200d\U0001f469 \\n", None),
    ],
)
def test_what_is_no_character_is_an_escape_and_all_else_stays(text, line):
    assert one_line(text) == (text if line is None else line)
    assert len(one_line(text).splitlines()) == 1


class Broken(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise DatasetError("photos/a\nb.png: is empty, should be an image file")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_dataset_error_keeps_all_of_a_name_with_a_line_break(workers):
    with pytest.raises(DatasetError) as info:
        next(iter(DataLoader(Broken(), num_workers=workers)))
    assert str(info.value) == "photos/a\\nb.png: is empty, should be an image file"


def test_a_command_says_a_config_error_on_one_line(capsys):
    @exit_code_of
    def main():
        raise ConfigError("a\nb.yaml: no such file")

    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err == "ConfigError: a\\nb.yaml: no such file\n"
