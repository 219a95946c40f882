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


def test_every_program_is_a_module_with_a_main():
    modules = [import_module(f"mmkeras.{name}") for name in __main__.PROGRAMS]
    assert all(callable(module.main) for module in modules)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("trian", "no program 'trian'.*Did you mean 'train'"),
        ("--versoin", "no flag '--versoin'"),
    ],
)
def test_an_unknown_program_or_flag_is_refused(word, message):
    with pytest.raises(UserError, match=message):
        __main__.main([word])


def test_the_words_after_the_name_reach_the_program():
    command = [sys.executable, "-m", "mmkeras", "predict", "--modle", "x"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert "'--modle'" in result.stderr and "'--model'" in result.stderr
