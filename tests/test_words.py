"""One sentence for a bad value everywhere: "KEY is VALUE, should be WHAT"."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "projects" / "libra_umop"
# How others say it; each would make a reader look for the key, the value and the range anew.
OTHER_WORDS = re.compile(r"\bmust be\b|\bha(s|ve) to be\b|\bnot one of\b|, got |\bexpected\b")
REFUSALS = ("ValueError", "ConfigError")


def refusals(path):
    """Line and text of every message that refuses a value, what is filled in left out."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
            continue
        if getattr(node.exc.func, "id", "") in REFUSALS:
            texts = [n.value for n in ast.walk(node.exc) if isinstance(n, ast.Constant)]
            yield node.lineno, "".join(text for text in texts if isinstance(text, str))


@pytest.mark.parametrize("room", sorted(p.name for p in PACKAGE.iterdir() if p.is_dir()))
def test_a_bad_value_is_refused_in_the_words_of_the_others(room):
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {text}"
        for path in (PACKAGE / room).rglob("*.py")
        for line, text in refusals(path)
        if OTHER_WORDS.search(text)
    ]
    assert found == []


def test_the_search_for_other_words_finds_them(tmp_path):
    source = 'raise ValueError(f"topk must be at least 1, got {topk}")\nraise KeyError("must be")\n'
    (tmp_path / "a.py").write_text(source)
    assert [text for _, text in refusals(tmp_path / "a.py")] == ["topk must be at least 1, got "]
    assert OTHER_WORDS.search("topk must be at least 1, got ")
