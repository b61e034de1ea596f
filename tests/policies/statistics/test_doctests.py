"""The examples in the docstrings are run: an example that lies is worse than none."""

import doctest
import importlib
import pkgutil

import pytest

from policies import statistics

MODULES = [module.name for module in pkgutil.iter_modules(statistics.__path__, "policies.statistics.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name):
    """Every example in the module gives what it says."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_examples_are_found():
    """The examples are where doctest looks: most modules have one."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    with_examples = [m for m in MODULES if any(t.examples for t in finder.find(importlib.import_module(m)))]
    assert len(with_examples) >= 0.8 * len(MODULES)
