import os
import subprocess
import sys
from importlib import import_module

import pytest

import mmkeras
from mmkeras import __main__
from mmkeras.errors import UserError


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_lists_every_program(argv, capsys):
    assert __main__.main(argv) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in __main__.PROGRAMS)


def test_the_version_is_printed(capsys):
    assert __main__.main(["--version"]) == 0
    assert capsys.readouterr().out == f"mmkeras {mmkeras.__version__}\n"


@pytest.mark.parametrize("name", __main__.PROGRAMS)
def test_every_program_is_a_module_with_a_main(name):
    assert callable(import_module(f"mmkeras.{name}").main)


def test_an_unknown_program_is_answered_with_the_one_meant():
    with pytest.raises(UserError, match="'trian'.*Did you mean 'train'"):
        __main__.main(["trian"])


def test_the_words_after_the_name_reach_the_program():
    result = subprocess.run(
        [sys.executable, "-m", "mmkeras", "predict", "--modle", "x"],
        capture_output=True,
        text=True,
        env=dict(os.environ),
    )
    assert result.returncode == 2
    assert "'--modle'" in result.stderr and "'--model'" in result.stderr


def test_an_unknown_flag_is_not_taken_for_a_program():
    with pytest.raises(UserError, match="no flag '--versoin'"):
        __main__.main(["--versoin"])
