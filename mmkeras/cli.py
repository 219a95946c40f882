"""Command lines: flags, YAML files and help out of the settings' dataclasses."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn, TextIO, get_args

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

from mmkeras.config import Config
from mmkeras.errors import ProofError, UserError
from mmkeras.presets import PRESETS


class Parser(ArgumentParser):
    """A parser whose errors are one line that says what to do instead."""

    def __init__(self, **kwargs):
        super().__init__(allow_abbrev=False, **kwargs)
        self._argv: Sequence[str] = ()

    def parse_args(self, args: Sequence[str], **kwargs) -> Namespace:
        self._argv = args
        return super().parse_args(args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UserError(_plain(self, str(ex or message))) from None

    def received(self, key: str) -> str:
        """Returns the value that the command line gave to the flag of `key`."""
        for flag, value in zip(self._argv, [*self._argv[1:], ""], strict=True):
            if flag.replace("-", "_") == f"__{key}":
                return f", received '{value}'"
            if flag.replace("-", "_").startswith(f"__{key}="):
                return f", received '{flag.partition('=')[2]}'"
        return ""


class _FirstLook(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message[:1].upper() + message[1:] + ".")


def _flags(parser: Parser) -> list[str]:
    return [f for f in parser._option_string_actions if f.startswith("--")]


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Returns " Did you mean 'x'?" for a near miss, else the list of what is known."""
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else f" Known: {', '.join(known)}."


def _plain(parser: Parser, message: str) -> str:
    """Turns a message of the parser library into one line for a user."""
    if found := re.search(r"[Uu]nrecognized arguments: (.*)", message):
        words = found[1].split()
        flag = next((w for w in words if w.startswith("--")), words[0])
        close = get_close_matches(flag.split("=")[0], _flags(parser), n=1)
        hint = f"Did you mean '{close[0]}'?" if close else "See --help for all flags."
        return f"There is no flag '{flag}'. {hint}"
    if found := re.search(
        r"Group '(.*)' does not accept (?:nested key|option) '(.*?)'", message
    ):
        group, key = found[1], found[2]
        known = [
            f[len(group) + 3 :] for f in _flags(parser) if f.startswith(f"--{group}.")
        ]
        return f"There is no setting '{key}' in '{group}'.{did_you_mean(key, known)}"
    if found := re.search(
        r"(?:Key|Option) '(.*?)' is not (?:expected|accepted)", message
    ):
        known = sorted({f[2:].split(".")[0] for f in _flags(parser)})
        return f"There is no setting '{found[1]}'.{did_you_mean(found[1], known)}"
    if found := re.search(
        r'Key "(.*?)" is required|arguments are required: ([^,]*)', message
    ):
        return f"--{found[1] or found[2]} is needed; see --help."
    if found := re.search(r'Parser key "(.*?)":', message):
        return _bad_value(parser, found[1], message[found.end() :])
    return " ".join(message.split())


def _bad_value(parser: Parser, key: str, detail: str) -> str:
    action = parser._option_string_actions.get(f"--{key}")
    hint = getattr(action, "_typehint", None)
    choices = [c for c in get_args(hint) if isinstance(c, str)]
    if choices:
        return f"{key} must be one of {', '.join(choices)}{parser.received(key)}."
    detail = " ".join(detail.split())
    detail = re.sub(r"<class '(\w+)'>", r"\1", detail).replace("Expected a ", "")
    if "Unable to load config" in detail:
        return f"{key} holds settings of its own{parser.received(key)}."
    if found := re.match(r"(.*)\. Got value: ?(.*)", detail):
        return f"{key} needs {found[1]}, received '{found[2]}'."
    return f"{key}: {detail}"


def choose_preset(argv: Sequence[str]) -> Config:
    """Returns the preset that `argv`, or a --config file in it, asks for.

    Raises:
        UserError: The preset is unknown, or the file cannot be read.
    """
    first = _FirstLook(add_help=False, allow_abbrev=False)
    first.add_argument("--preset")
    first.add_argument("--config", action="append", default=[])
    asked, _ = first.parse_known_args(list(argv))
    name = asked.preset
    contents = [_read_yaml(path) for path in asked.config]
    for content in reversed(contents):
        name = name or content.get("preset")
    name = name or Config().preset
    if not isinstance(name, str) or name not in PRESETS:
        raise UserError(
            f"There is no preset '{name}'.{did_you_mean(str(name), list(PRESETS))}"
        )
    return PRESETS[name]()


def _read_yaml(path: str) -> dict:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The file '{path}' cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        words = " ".join(str(error).split())
        raise UserError(f"The file '{path}' is not YAML: {words}.") from None
    if not isinstance(content, dict):
        raise UserError(
            f"The file '{path}' must hold settings as 'name: value' lines, received "
            f"{type(content).__name__}."
        )
    for name in content:
        if not isinstance(name, str) or name == "config":
            raise UserError(f"The file '{path}' cannot set '{name}'.")
    return content


def add_settings(parser: Parser, preset: Config, kind: type[Config] = Config) -> None:
    """Adds --config and one flag a setting, with the preset's values as defaults.

    `kind` is `Config`, or one of its own with more settings.
    """
    parser.add_argument(
        "--config", action=ActionConfigFile, help="YAML file of settings; flags win."
    )
    preset = kind(**{f.name: getattr(preset, f.name) for f in fields(preset)})
    parser.add_class_arguments(kind, default=preset)
    rows = parser._option_string_actions["--on_bad_row"]
    rows.option_strings.insert(0, "--on-bad-row")
    parser._option_string_actions["--on-bad-row"] = rows


def settings(parser: Parser, parsed: Namespace, kind: type[Config] = Config) -> Config:
    """Returns the settings that were parsed; `kind` as in `add_settings`."""
    names = kind.__dataclass_fields__
    for name, value in vars(parsed).items():
        if name in names and is_dataclass(getattr(kind(), name)):
            if not isinstance(value, Namespace):
                raise UserError(
                    f"{name} holds settings of its own, received '{value}'."
                )
    # Its name since jsonargparse 4.49.
    build = getattr(parser, "instantiate", None) or parser.instantiate_classes
    built = build(parsed)
    return kind(**{name: built[name] for name in names})


def without(argv: Sequence[str], *flags: str) -> list[str]:
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
        sys.exit(main(sys.argv[1:]) or 0)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
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
    except ProofError as error:
        print(f"error: The export failed its proof. {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)


def _is_flushed(file: TextIO | None) -> bool:
    """Whether nothing is left that Python would fail to write at its end."""
    try:
        if file is not None:
            file.flush()
    except OSError:
        return False
    return True
