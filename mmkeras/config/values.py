"""Conversion of YAML and command-line text to typed setting values."""

import re
from collections import Counter
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml

from mmkeras.errors import UserError, one_line

_REMEDIES = {
    int: "Give a whole number, such as 3.",
    float: "Give a number, such as 0.5.",
    bool: "Give true or false.",
    str: "Give text; in YAML, quote what looks like a number.",
    list: "Give a list, such as [VALUE, VALUE].",
    dict: 'Give a mapping, such as {"NAME": VALUE}.',
}
_TAG = "tag:yaml.org,2002:"
_MAX_CHARACTERS = 200  # of a value in an error
_EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")  # a string in YAML 1.1


def convert(name: str, hint: Any, value: Any) -> Any:
    """Converts a value of a flag or of a YAML file to its type.

    Args:
        name: Setting or flag, for errors.
        hint: Any, str, int, float, bool, Literal of strings, dict[str, T] or list[T];
            or a union of one of these and a Literal.
        value: Text of the command line, or a parsed YAML value.

    Raises:
        UserError: The value has another type, or is none of the choices.
    """
    value = _without_numpy(value)
    if hint is Any:
        return parse_text(value)
    if get_origin(hint) in (Union, UnionType):
        hint, words = get_args(hint)
        if value in get_args(words):
            return value
        try:
            return convert(name, hint, value)
        except UserError as error:
            words = " or ".join(get_args(words))
            raise UserError(f"{error} Or give {words}.") from None
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        if value in choices:
            return value
        allowed, close = ", ".join(choices), get_close_matches(str(value), choices, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise UserError(f"{name} must be one of {allowed}, {describe(value)}.{hint}")
    if kind := get_origin(hint):
        inner, content = get_args(hint)[-1], parse_text(value)
        if not isinstance(content, kind):
            raise _wrong_type(name, kind, value)
        if kind is list:
            return [convert(name, inner, member) for member in content]
        return {str(k): convert(f"{name}.{k}", inner, v) for k, v in content.items()}
    parsed = value if hint is str else parse_text(value)
    if hint is bool and isinstance(parsed, str):
        parsed = yaml.SafeLoader.bool_values.get(parsed.lower(), parsed)  # yes, on
    if hint is float and isinstance(parsed, str) and _EXPONENT.fullmatch(parsed):
        parsed = float(parsed)
    types = (int, float) if hint is float else hint
    if not isinstance(parsed, types) or isinstance(parsed, bool) != (hint is bool):
        raise _wrong_type(name, hint, value)
    try:
        return hint(parsed)
    except OverflowError:  # an int beyond all floats
        raise _wrong_type(name, hint, value) from None


def _without_numpy(value: Any) -> Any:
    """Returns scalars of NumPy as Python's, also in mappings."""
    if isinstance(value, dict):
        return {name: _without_numpy(member) for name, member in value.items()}
    return value.item() if getattr(value, "shape", None) == () else value


def describe(value: Any) -> str:
    """Returns "received 'x'" on one line, shortened if necessary."""
    if value is None:
        return "received nothing"
    text = one_line(value)
    if len(text) > _MAX_CHARACTERS:
        text = text[:_MAX_CHARACTERS] + "..."
    return f"received '{text}'"


def _wrong_type(name: str, hint: type, value: Any) -> UserError:
    return UserError(
        f"{name} needs {hint.__name__}, {describe(value)}. {_REMEDIES[hint]}"
    )


_RESOLVED = ("timestamp", "bool", "int")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 loader with dates, yes, no, on and off as text, and decimal integers."""

    yaml_implicit_resolvers = {
        first: [r for r in rules if r[0].removeprefix(_TAG) not in _RESOLVED]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Refuses a name that is there twice, of which YAML would take the last."""
        names = Counter(str(key.value) for key, _ in node.value)
        for name in (name for name, count in names.items() if count > 1):
            text = f"'{name}' is there twice"
            raise yaml.constructor.ConstructorError(
                problem=text, problem_mark=node.start_mark
            )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    f"{_TAG}bool", re.compile("(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    f"{_TAG}int", re.compile("[-+]?(?:0|[1-9][0-9_]*)$"), list("-+0123456789")
)


def load_yaml(text: str) -> Any:
    """Parses YAML.

    Raises:
        ValueError: The text is not YAML; the message is on one line.
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(one_line(error)) from None


def parse_text(value: Any) -> Any:
    """Returns the YAML value of a text, 3 for "3"; other values unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return load_yaml(value)
    except ValueError:
        return value


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Reads a YAML file of settings without checking the values.

    Raises:
        UserError: The file cannot be read, or is no mapping of names.
    """
    try:
        content = load_yaml(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The file '{path}' cannot be read: {error}.") from None
    except ValueError as error:
        raise UserError(f"The file '{path}' is not YAML: {error}.") from None
    if not isinstance(content, dict):
        raise UserError(
            f"The file '{path}' must hold settings as 'name: value' lines, received "
            f"{type(content).__name__}."
        )
    for name in content:
        if not isinstance(name, str) or name == "config":
            raise UserError(f"The file '{path}' cannot set '{name}'.")
    return content


def read_group(name: str, value: Any, hint: str = "") -> dict[str, Any]:
    """Returns the settings of a group: a mapping, its text, or a YAML file's path.

    `hint` is added to the error.

    Raises:
        UserError: The value is none of these.
    """
    content = parse_text(value)
    if isinstance(content, str) and content and Path(content).is_file():
        return read_yaml(content)
    if not isinstance(content, dict):
        raise UserError(
            f"{name} holds settings of its own, {describe(value)}. Give them by name, "
            f"as --{name}.NAME VALUE.{hint}"
        )
    return content
