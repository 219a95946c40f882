"""Command-line settings and exit codes of the programs."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn, TextIO

from mmkeras.config import Config, to_yaml
from mmkeras.config.flags import FILES, Parser, build, list_flags
from mmkeras.config.generate import GENERATE
from mmkeras.config.presets import CAPTIONS, DEMO, PRESETS
from mmkeras.config.values import read_yaml
from mmkeras.environment.extras import EXTRAS, missing_extra
from mmkeras.errors import ExportMismatchError, LostWorkerError, UserError, did_you_mean
from mmkeras.full_disk import find_full_disk, silence_finalizers

INTERRUPTED = 130  # exit code after Ctrl-C: 128 + SIGINT
_REPEAT_S = 0.05  # until Python is out of the code where it swallows exceptions


def choose_preset(argv: Sequence[str], *, has_demo: bool = False) -> Config:
    """Returns the settings of --preset, in `argv` or in a --config file.

    With `has_demo`, a command line without --data is for the demo data set of the task.
    The default presets of this set, and of texts, train on a CPU without a download.

    Raises:
        UserError: The preset is unknown, or the file cannot be read.
    """
    parser = Parser(add_help=False)
    parser.add_argument("--preset")
    parser.add_argument("--task")
    parser.add_argument("--config", action="append")
    parser.add_argument("--data")
    values, _ = parser.split(argv)
    contents = [read_yaml(path) for path in values.get("config", [])]
    sources = [values, *reversed(contents)]
    name, task = (
        next((source[key] for source in sources if source.get(key)), "")
        for key in ("preset", "task")
    )
    is_demo = has_demo and not any("data" in source for source in sources)
    if not name and (is_demo or task == GENERATE):
        name = CAPTIONS if task == GENERATE else DEMO
    return find_preset(name)


def find_preset(name: str) -> Config:
    """Returns the settings of a preset; "" is the default one.

    Raises:
        UserError: There is none of this name.
    """
    name = name or Config().preset
    if not isinstance(name, str) or name not in PRESETS:
        raise UserError(
            f"There is no preset '{name}'.{did_you_mean(str(name), list(PRESETS))}"
        )
    return PRESETS[name]()


def build_config(values: Mapping[str, Any], defaults: Config | None = None) -> Config:
    """Returns settings from values by dotted name, checked as a command line is.

    `defaults` are those of `values["preset"]`, unless given.

    Raises:
        UserError: A setting does not exist, or a value is not possible.

    Example:
        build_config({"preset": "small-concat", "text.encoder": "lstm", "epochs": 3})
    """
    parser = Parser()
    add_settings(parser, defaults or find_preset(values.get("preset", "")))
    return build(Config, vars(parser.convert_all(dict(sorted(values.items())))))


def add_settings(parser: Parser, preset: Config, kind: type[Config] = Config) -> None:
    """Adds --config and one flag per setting of `kind`; `preset` has the defaults."""
    parser.add_argument(
        "--config",
        action="append",
        dest=FILES,
        metavar="FILE.yaml",
        help="YAML file of settings; the last file wins, and flags win over files.",
    )
    general = parser.add_argument_group("Settings")
    group = general
    defaults = kind(**{f.name: getattr(preset, f.name) for f in fields(preset)})
    for flag in list_flags(defaults):
        if flag.is_group:
            group = parser.add_argument_group(flag.doc.rstrip("."))
        in_group = "." in flag.name or flag.is_group
        parser.add_setting(flag, group if in_group else general)
    parser.add_argument(
        "--print_config", action="store_true", help="Print all settings and exit."
    )
    parser.add_help_all()


def settings(
    parser: Parser, parsed: argparse.Namespace, kind: type[Config] = Config
) -> Config:
    """Returns the parsed settings; `kind` as in `add_settings`.

    Raises:
        UserError: The values cannot be combined.
    """
    config = build(kind, vars(parsed))
    if parsed.print_config:
        print(to_yaml(config), end="")
        parser.exit()
    return config


def drop_flags(argv: Sequence[str], *flags: str) -> list[str]:
    """Returns a command line without some flags and their values.

    Example:
        >>> drop_flags(["--seed", "1", "--epochs=2"], "--seed")
        ['--epochs=2']
    """
    pairs = zip(["", *argv], argv, strict=False)
    return [
        word
        for previous, word in pairs
        if previous not in flags and word.partition("=")[0] not in flags
    ]


def load_config(path: Path) -> Config:
    """Reads the config.yaml of a run.

    Raises:
        UserError: The file is missing, or holds an unknown or invalid setting.
    """
    argv = ["--config", str(path)]
    parser = Parser()
    add_settings(parser, choose_preset(argv))
    return settings(parser, parser.parse_args(argv))


def run_program(main: Callable[[Sequence[str]], int | None]) -> NoReturn:
    """Runs a program and exits; a `UserError` is one line on stderr and exit code 2.

    A full disk is one line and exit code 1.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    try:
        code = _run(main)
        if code == INTERRUPTED:
            _exit_at_once(code)
        sys.exit(code)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        if isinstance(error, LostWorkerError):
            _exit_at_once(2)
        sys.exit(2)
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in EXTRAS or find_spec(module):
            raise
        print(f"error: {missing_extra(module, 'This program')}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # stdout was closed, for example by `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.filename is None:  # not about a user's file
            raise
        print(f"error: {error.filename}: {error.strerror}.", file=sys.stderr)
        if not _is_flushed(sys.stdout):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(2)
    except ExportMismatchError as error:
        print(f"error: The export failed its verification. {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        _exit_at_once(INTERRUPTED)


def _run(main: Callable[[Sequence[str]], int | None]) -> int:
    """Returns the exit code of a program; ends this process if the disk is full."""
    silence_finalizers()
    _repeat_lost_interrupts()
    try:
        code = main(sys.argv[1:]) or 0
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except Exception as error:
        if (full := find_full_disk(error)) is None:
            raise
        path = f"{full.filename}: " if full.filename else ""
        text = f"error: {path}{full.strerror}. Free some space, and repeat the command."
        print(text, file=sys.stderr)
        # Libraries would try to write the rest, and HDF5 crashes in that.
        _exit_at_once(1)


def _repeat_lost_interrupts() -> None:
    """Sends a signal again whose KeyboardInterrupt Python has swallowed.

    Python only prints what is raised in a finalizer, or in a callback of the garbage
    collector, such as JAX has one.
    """
    print_ignored = sys.unraisablehook

    def repeat(args):
        signals = (signal.SIGINT, signal.SIGTERM)
        handled = [n for n in signals if callable(signal.getsignal(n))]
        if not handled or not issubclass(args.exc_type, KeyboardInterrupt):
            return print_ignored(args)
        threading.Timer(_REPEAT_S, os.kill, (os.getpid(), handled[0])).start()

    sys.unraisablehook = repeat


def print_warnings(texts: Iterable[str]) -> None:
    """Prints warnings on stderr, one per line."""
    for text in texts:
        print(f"Warning: {text}", file=sys.stderr)


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """Lets SIGINT and SIGTERM, unless ignored, raise KeyboardInterrupt.

    Yields the list of the signals received, for a library may swallow the exception in
    a finalizer or an `except:`.
    """
    received = []

    def interrupt(number, _):
        received.append(number)
        raise KeyboardInterrupt

    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    before = {n: h for n, h in before.items() if h not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, interrupt)
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_at_once(code: int) -> NoReturn:
    """Exits without the interpreter's shutdown.

    TensorFlow's threads continue after Ctrl-C or the loss of a worker, and can crash
    the process while the interpreter shuts down (TensorFlow 2.21 on Python 3.13).
    """
    for file in (sys.stdout, sys.stderr):
        _is_flushed(file)
    os._exit(code)


def _is_flushed(file: TextIO | None) -> bool:
    """Whether all output is written, so that Python can exit without an error."""
    try:
        if file is not None:
            file.flush()
    except OSError:
        return False
    return True
