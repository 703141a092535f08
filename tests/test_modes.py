"""The table of modes: each row names what is there, and what follows from it is."""

import inspect
from operator import attrgetter

import pytest

import tl_keras
from tl_keras import api
from tl_keras.arguments import parser
from tl_keras.config import Config, fields
from tl_keras.modes import FUNCTIONS, MODES, called_elsewhere, load
from tl_keras.short_forms import SHORT_FORMS, normal


@pytest.mark.parametrize("mode", MODES.values(), ids=list(MODES))
def test_a_row_names_what_is_there(mode):
    taken = inspect.signature(load(mode.run)).parameters
    assert {"progress", *mode.passes.values()} <= set(taken)
    assert list(inspect.signature(load(mode.show)).parameters)[1:] == ["asked"]
    known = {action.dest for action in parser()._actions}
    assert set(mode.options) <= known
    assert set(mode.passes) <= set(mode.options)
    assert set(mode.forms) <= set(SHORT_FORMS)
    assert {name for name in (mode.paths, mode.trains) if name} <= set(fields())
    assert mode.section is None or hasattr(Config(mode=mode.name), mode.section)
    assert all(isinstance(attrgetter(setting)(Config(mode=mode.name)), str) for setting in mode.named_after)
    assert all(word == normal(word) and mode.name in called_elsewhere(word) for word in mode.elsewhere)
    assert f"  {mode.name} " in parser().format_help()


def test_the_public_functions_are_those_of_the_table():
    assert set(FUNCTIONS) == set(api.__all__)
    assert set(FUNCTIONS) <= set(tl_keras.__all__)


BROKEN = """
import sys
from importlib.machinery import ModuleSpec
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("keras_tuner", "grpc"):
            raise RuntimeError(f"{name} is broken")
sys.meta_path.insert(0, Broken())
from tl_keras.modes import MODES, load
for name, mode in MODES.items():
    try:
        load(mode.run), load(mode.show)
    except RuntimeError:
        print(name)
"""


@pytest.mark.slow
def test_a_package_that_is_broken_spoils_only_the_modes_that_need_it(python_alone, tmp_path):
    assert python_alone(BROKEN, cwd=tmp_path).stdout.split() == ["search"]
