"""Command lines of programs: presets, YAML files, flags, exit codes."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn, TextIO

import yaml

from mmkeras.config import Config, to_dict
from mmkeras.config.flags import FILES, Parser, build, list_flags
from mmkeras.config.presets import PRESETS
from mmkeras.config.values import read_yaml
from mmkeras.environment.extras import EXTRAS, missing_extra
from mmkeras.errors import ExportMismatchError, UserError, did_you_mean

INTERRUPTED = 130  # exit code after Ctrl-C: 128 + SIGINT


def choose_preset(argv: Sequence[str]) -> Config:
    """Returns the preset that `argv`, or a --config file in it, asks for.

    Raises:
        UserError: The preset is unknown, or the file cannot be read.
    """
    parser = Parser(add_help=False)
    parser.add_argument("--preset")
    parser.add_argument("--config", action="append")
    given, _ = parser.split(argv)
    name = given.get("preset")
    contents = [read_yaml(path) for path in given.get("config", [])]
    for content in reversed(contents):
        name = name or content.get("preset")
    name = name or Config().preset
    if not isinstance(name, str) or name not in PRESETS:
        raise UserError(
            f"There is no preset '{name}'.{did_you_mean(str(name), list(PRESETS))}"
        )
    return PRESETS[name]()


def add_settings(parser: Parser, preset: Config, kind: type[Config] = Config) -> None:
    """Adds --config and one flag per setting, with the preset's values as defaults.

    `kind` is `Config` or a subclass with more settings.
    """
    parser.add_argument(
        "--config",
        action="append",
        dest=FILES,
        metavar="FILE.yaml",
        help="YAML file of settings; of several the last wins, and flags win over all.",
    )
    general = parser.add_argument_group("Settings")
    group = general
    for flag in list_flags(
        kind(**{f.name: getattr(preset, f.name) for f in fields(preset)})
    ):
        if flag.is_group:
            group = parser.add_argument_group(flag.doc.rstrip("."))
        parser.add_setting(
            flag, group if "." in flag.name or flag.is_group else general
        )
    parser.add_argument(
        "--print_config", action="store_true", help="Print all settings and exit."
    )


def settings(
    parser: Parser, parsed: argparse.Namespace, kind: type[Config] = Config
) -> Config:
    """Returns the settings that were parsed; `kind` as in `add_settings`.

    Raises:
        UserError: The values are not possible together.
    """
    config = build(kind, vars(parsed))
    if parsed.print_config:
        text = yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)
        print(text, end="")
        parser.exit()
    return config


def drop_flags(argv: Sequence[str], *flags: str) -> list[str]:
    """Returns the words of a command line but some flags and their values."""
    pairs = zip(["", *argv], argv, strict=False)
    return [
        word
        for before, word in pairs
        if before not in flags and word.partition("=")[0] not in flags
    ]


def load_config(path: Path) -> Config:
    """Reads a resolved config.yaml back.

    Raises:
        UserError: The file is missing, or holds an unknown or impossible setting.
    """
    argv = ["--config", str(path)]
    parser = Parser()
    add_settings(parser, choose_preset(argv))
    return settings(parser, parser.parse_args(argv))


def run_program(main: Callable[[Sequence[str]], int | None]) -> NoReturn:
    """Runs a program's main: a user's mistake is one line on stderr and exit 2."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    try:
        code = main(sys.argv[1:]) or 0
        if code == INTERRUPTED:
            _exit_at_once(code)
        sys.exit(code)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in EXTRAS or find_spec(module):
            raise
        print(f"error: {missing_extra(module, 'This program')}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.filename is None:  # not about a file that a user named or moved
            raise
        print(f"error: {error.filename}: {error.strerror}.", file=sys.stderr)
        if not _is_flushed(sys.stdout):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(2)
    except ExportMismatchError as error:
        print(f"error: The export failed its proof. {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        _exit_at_once(INTERRUPTED)


def _exit_at_once(code: int) -> NoReturn:
    """Exits without the interpreter's shutdown.

    TensorFlow's threads go on after Ctrl-C, and those of TensorFlow 2.21 on Python 3.13
    can crash the process while the interpreter shuts down.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _is_flushed(file: TextIO | None) -> bool:
    """Whether nothing is left that Python would fail to write at its end."""
    try:
        if file is not None:
            file.flush()
    except OSError:
        return False
    return True
