"""Command-line flags for the fields of settings dataclasses, and their parser."""

import argparse
import inspect
import json
import re
import shlex
from argparse import SUPPRESS
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mmkeras.config.table import ALIASES, TYPES
from mmkeras.config.values import convert, read_group, read_yaml
from mmkeras.errors import UserError, did_you_mean

Settings = TypeVar("Settings")
FILES = "config files"  # name of --config; no flag or YAML key has a space

_METAVARS = {int: "INT", float: "FLOAT", bool: "{true,false}", str: "TEXT"}

# Setting -> other spellings of its flag.
_SHORT = {"on_bad_row": ("on-bad-row",), "table.label": ("label",)}
# Other words for columns of the table.
_SYNONYMS = {"target": "label", "class": "label", "y": "label", "img": "image"}
# Settings that are names with commas between, or a list of names.
_LISTS = {f"table.{name}" for name in (*TYPES, "ignore", "label", "modalities")}
_LISTS |= {"classes", "ensemble.presets"}
# Settings of the table that name columns.
_COLUMNS = {*TYPES, "label", "id_column", "split_column", "group_column"}
# Earlier name of a setting -> its present one.
RENAMED = {f"table.{old}": f"table.{new}" for old, new in ALIASES.items()}
RENAMED["train.fine_tune_learning_rate"] = "train.fine_tune_rate"


@dataclass(frozen=True, kw_only=True)
class Flag:
    """Value that a command line or a YAML file can set.

    Attributes:
        name: Key in the parsed values, such as "text.dropout".
        words: Spellings on the command line.
        label: Name in errors.
        hint: Type hint of the value; a dataclass is a group of settings.
        doc: Text for --help.
    """

    name: str
    words: tuple[str, ...]
    label: str
    hint: Any
    default: Any = None
    doc: str = ""
    is_required: bool = False

    @property
    def is_group(self) -> bool:
        return is_dataclass(self.hint)

    @property
    def is_mapping(self) -> bool:
        return get_origin(self.hint) is dict

    @property
    def metavar(self) -> str:
        """Name of the value in --help: its type or its choices."""
        if get_origin(self.hint) in (Union, UnionType):
            kind, words = get_args(self.hint)
            return "|".join([_METAVARS[kind], *get_args(words)])
        if get_origin(self.hint) is Literal:
            return f"{{{','.join(get_args(self.hint))}}}"
        if self.is_group:
            return "FILE.yaml"
        return "JSON" if self.is_mapping else _METAVARS[self.hint]

    @property
    def help(self) -> str:
        """Text of --help, ready for argparse's own % formatting."""
        if self.is_group:
            return "YAML file of these settings, or {NAME: VALUE, ...}."
        default = self.default
        shown = default if isinstance(default, str) else json.dumps(default)
        text = f"{self.doc} (default: {shown or 'empty'})"
        return text.strip().replace("%", "%%")


class Parser(argparse.ArgumentParser):
    """Parser whose errors are one line that names the value and the remedy.

    argparse splits the command line and formats --help. This class checks names, types
    and required values.
    """

    def __init__(self, **kwargs):
        self.flags: dict[str, Flag] = {}
        self._required: list[argparse.Action] = []
        self._switches, self._entries = set[str](), set[str]()
        self._hidden: dict[argparse.Action, str] = {}  # and their help
        super().__init__(allow_abbrev=False, exit_on_error=False, **kwargs)

    def add_argument(
        self,
        *words: str,
        type: type = str,
        default: Any = None,
        choices: Sequence[str] = (),
        required: bool = False,
        help: str = "",
        **kwargs,
    ) -> argparse.Action:
        """Adds a flag of the program, with arguments as for argparse."""
        if choices:
            kwargs["metavar"] = f"{{{','.join(choices)}}}"
        if required:
            help += " (required)"
        elif default not in (None, SUPPRESS):
            help += f" (default: {default})"
        action = super().add_argument(*words, default=SUPPRESS, help=help, **kwargs)
        if action.nargs == 0:
            self._switches.update(words)
            type, default = bool, False
        hint = Literal[tuple(choices)] if choices else type
        if kwargs.get("action") == "append":
            hint = list[hint]
        if action.dest not in ("help", SUPPRESS):
            self.flags[action.dest] = Flag(
                name=action.dest,
                words=words,
                label=words[0],
                hint=hint,
                default=default,
                is_required=required or action.required,
            )
        if required or action.required:
            self._required.append(action)
            self._mark_required(False)  # for argparse; a file may set the value
        return action

    def add_setting(self, flag: Flag, group: Any) -> None:
        """Adds the flag of a setting to a group of --help.

        --help leaves out members of groups, which --help-all explains.
        """
        self.flags[flag.name] = flag
        action = group.add_argument(
            *flag.words,
            dest=flag.name,
            default=SUPPRESS,
            metavar=flag.metavar,
            help=flag.help,
        )
        if "." in flag.name or flag.is_group:
            self._hidden[action], action.help = action.help, SUPPRESS

    def add_help_all(self) -> None:
        """Adds --help-all, which prints what --help leaves out as well."""
        text = "Explain all settings, such as --table.label, and exit."
        self.add_argument("--help-all", action=_HelpAll, help=text)

    def show_all(self) -> None:
        """Makes --help explain all settings."""
        for action, text in self._hidden.items():
            action.help = text

    def format_help(self) -> str:
        self._mark_required(True)  # without brackets in the usage
        text = super().format_help()
        self._mark_required(False)
        return text

    def _mark_required(self, is_required: bool) -> None:
        for action in self._required:
            action.required = is_required

    def parse_args(self, args: Sequence[str]) -> argparse.Namespace:
        """Returns the values of all flags by name, from files, `args` and defaults.

        Raises:
            UserError: A flag or a value is wrong, or a file cannot be read.
        """
        return self._with_defaults(self.read_values(args))

    def read_values(self, args: Sequence[str]) -> dict[str, Any]:
        """Returns the values by name that files and `args` give, without defaults.

        Raises:
            UserError: A flag or a value is wrong, or a file cannot be read.
        """
        for word in {arg.partition("=")[0] for arg in args} - self._entries:
            if word.startswith("--") and self._mapping_of(word[2:]):
                self._entries.add(word)
                super().add_argument(
                    word, dest=word[2:], default=SUPPRESS, help=SUPPRESS
                )
        texts, unknown = self.split([self._current_name(arg) for arg in args])
        if unknown:
            raise UserError(self._unknown_flag(unknown))
        contents = [read_yaml(path) for path in texts.pop(FILES, [])]
        # "text" before "text.dropout", which wins.
        return self._convert(*contents, dict(sorted(texts.items())))

    def convert_all(self, *contents: Mapping[str, Any]) -> argparse.Namespace:
        """Returns the values of all flags by name; later contents win.

        Raises:
            UserError: A name or a value is wrong.
        """
        return self._with_defaults(self._convert(*contents))

    def _convert(self, *contents: Mapping[str, Any]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for content in contents:
            for name, value in content.items():
                self._set(values, name, value)
        return values

    def _with_defaults(self, values: Mapping[str, Any]) -> argparse.Namespace:
        values = dict(values)
        for flag in self.flags.values():
            if flag.is_required and flag.name not in values:
                raise UserError(f"{flag.label} is needed; see --help.")
            values.setdefault(flag.name, flag.default)
        return argparse.Namespace(**values)

    def split(self, args: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        """Returns flag name -> text, and the words that belong to no flag.

        Raises:
            UserError: A flag lacks its value, or has an unexpected one.
        """
        try:
            namespace, unknown = self.parse_known_args(list(args))
        except argparse.ArgumentError as error:
            word = str(error.argument_name).split("/")[0]
            need = "takes no value"
            if word not in self._switches:
                need = f"needs a value: {word}=VALUE"
            raise UserError(f"{word} {need}; see --help.") from None
        return vars(namespace), unknown

    def _mapping_of(self, name: str) -> Flag | None:
        """Returns the mapping flag of an entry: "env" for "env.HOME"."""
        mappings = (flag for flag in self.flags.values() if flag.is_mapping)
        return next((f for f in mappings if name.startswith(f"{f.name}.")), None)

    def _current_name(self, arg: str) -> str:
        """Returns a word of the command line with the present name of a setting."""
        word, *rest = arg.split("=", 1)
        name = RENAMED.get(word.removeprefix("--"), "")
        is_known = word.startswith("--") and name in self.flags
        return "=".join([f"--{name}", *rest]) if is_known else arg

    def _set(self, values: dict[str, Any], name: str, value: Any) -> None:
        """Adds a value, or those of a group, to `values`."""
        name = RENAMED.get(name, name)
        flag, mapping = self.flags.get(name), self._mapping_of(name)
        if flag and flag.is_group:
            column = f"table.{name}"
            hint = f" Its column is --{column}." if column in self.flags else ""
            for key, member in read_group(name, value, hint).items():
                self._set(values, f"{name}.{key}", member)
        elif flag:
            if name in _LISTS and isinstance(value, list | tuple):
                value = ",".join(map(str, value))
            values[name] = convert(flag.label, flag.hint, value)
        elif mapping:
            entry = convert(name, get_args(mapping.hint)[1], value)
            key = name[len(mapping.name) + 1 :]
            others = values.get(mapping.name, mapping.default)
            values[mapping.name] = {**others, key: entry}
        else:
            raise UserError(self._unknown_setting(name))

    def _unknown_setting(self, name: str) -> str:
        group, _, key = name.rpartition(".")
        known = [n.rpartition(".") for n in self.flags if n != FILES]
        siblings = [k for start, _, k in known if start == group]
        place = f" in '{group}'" if group else ""
        if group in self.flags and not siblings:
            return f"There is no setting '{name}': {group} is a single value."
        if not siblings:
            return self._unknown_setting(group)
        return f"There is no setting '{key}'{place}.{did_you_mean(key, siblings)}"

    def _unknown_flag(self, words: Sequence[str]) -> str:
        word = next((w for w in words if w.startswith("-")), words[0])
        known = [w for flag in self.flags.values() for w in flag.words]
        if not word.startswith("-"):
            has_ending = Path(word).suffix[1:2].isalpha()  # which 0.5 has not
            is_table = "--data" in known and (has_ending or Path(word).is_file())
            command = f"--data {shlex.quote(word)}"
            hint = f"Did you mean `{command}`?" if is_table else "See --help."
            return f"'{word}' belongs to no flag. {hint}"
        word = word.partition("=")[0]
        # "--labels" and "--label-column" are "--table.label".
        columns = {
            w.rpartition(".")[2].removesuffix("_column"): w
            for w in known
            if w.startswith("--table.") and w.rpartition(".")[2] in _COLUMNS
        }
        name = word.lstrip("-").replace("-", "_").removesuffix("_column")
        name = _SYNONYMS.get(name, name)
        column = get_close_matches(name, columns, n=1, cutoff=0.8)
        close = [columns[c] for c in column] or get_close_matches(
            word, [*known, *self._switches], n=1
        )
        hint = f"Did you mean '{close[0]}'?" if close else "See --help for all flags."
        return f"There is no flag '{word}'. {hint}"


class _HelpAll(argparse.Action):
    def __init__(self, option_strings, dest, **kwargs):
        super().__init__(option_strings, SUPPRESS, nargs=0, **kwargs)

    def __call__(self, parser, *_):
        parser.show_all()
        parser.print_help()
        parser.exit()


def list_flags(default: Any, prefix: str = "") -> Iterator[Flag]:
    """Yields a flag per field of a settings dataclass, each group before its members.

    Names begin with `prefix`: "text." for the settings of a group.
    """
    hints, docs = get_type_hints(type(default)), read_docs(type(default))
    for field in fields(default):
        name, value = f"{prefix}{field.name}", getattr(default, field.name)
        words = [*_SHORT.get(name, ()), name]
        yield Flag(
            name=name,
            words=tuple(f"--{word}" for word in words),
            label=name,
            hint=hints[field.name],
            default=value,
            doc=docs.get(field.name, ""),
        )
        if is_dataclass(value):
            yield from list_flags(value, f"{name}.")


def read_docs(kind: type) -> dict[str, str]:
    """Returns field -> text under "Attributes:" in the docstrings of a class.

    Inherited fields have the text of the class that defines them.
    """
    docs = {}
    for base in reversed(kind.__mro__):
        text = inspect.cleandoc(base.__doc__ or "")
        section = re.search(r"^Attributes:\n((?: .*\n?|\n)*)", text, re.MULTILINE)
        entry = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)
        for name, doc in entry.findall(section[1] if section else ""):
            docs[name] = " ".join(doc.split())
    return docs


def build(
    kind: type[Settings], values: Mapping[str, Any], prefix: str = ""
) -> Settings:
    """Builds a settings dataclass from flag name -> value.

    Raises:
        UserError: The values cannot be combined.
    """
    hints = get_type_hints(kind)
    return kind(
        **{
            name: build(hint, values, f"{prefix}{name}.")
            if is_dataclass(hint)
            else values[f"{prefix}{name}"]
            for name, hint in hints.items()
        }
    )
