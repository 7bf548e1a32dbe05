"""The examples in the docstrings of ``functional`` give what they say."""

import doctest

import pytest
import torch

from libra_umop import functional


@pytest.mark.parametrize("name", functional.__all__)
def test_the_example_gives_what_it_says(name):
    names = {"torch": torch, **{n: getattr(functional, n) for n in functional.__all__}}
    item = getattr(functional, name)
    tests = doctest.DocTestFinder(recurse=False).find(item, name, globs=names)
    (test,) = (t for t in tests if t.examples)
    assert any(f"{name}(" in example.source for example in test.examples)
    assert any(example.want for example in test.examples)
    failures: list[str] = []
    doctest.DocTestRunner().run(test, out=failures.append)
    assert not failures, "".join(failures)
