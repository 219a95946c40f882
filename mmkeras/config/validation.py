"""Checks of settings; an error names the setting, its value and the allowed values."""

import operator
from typing import Any, Literal

from mmkeras.errors import UserError

# How a sequence of tokens becomes one vector.
Pooling = Literal["mean", "max", "last", "attention"]
# Whether an encoder keeps its weights; auto means yes with pretrained ones.
Frozen = Literal["auto", "yes", "no"]
AUTO = "auto"  # value of settings that follow the number of training rows
_WORDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def check(is_allowed: bool, name: str, value: Any, allowed: str) -> None:
    """Raises a `UserError` of one line unless the value is allowed."""
    if not is_allowed:
        raise UserError(f"{name}={value} is not possible: it must be {allowed}.")


def check_range(
    settings: Any, *names: str, auto: bool = False, **limits: float | str
) -> None:
    """Checks that numbers are within limits.

    Args:
        settings: Dataclass with the values.
        names: Full names of its fields, "audio.hop_ms" for `settings.hop_ms`.
        auto: Whether "auto" is allowed as well.
        limits: ge (at least), gt (above), le (at most) and lt (below). A limit is a
            number, or the full name of another field.

    Raises:
        UserError: A value is outside the limits, or not a number (NaN).

    Example:
        check_range(self, "audio.hop_ms", ge=1, le="audio.window_ms")
    """
    numbers, texts = {}, []
    for kind, limit in limits.items():
        is_field = isinstance(limit, str)
        numbers[kind] = _value(settings, limit) if is_field else limit
        text = f"{limit}={numbers[kind]}" if is_field else str(limit)
        texts.append(f"{_WORDS[kind]} {text}")
    for name in names:
        value = _value(settings, name)
        if auto and value == AUTO:
            continue
        is_allowed = all(getattr(operator, k)(value, n) for k, n in numbers.items())
        check(is_allowed, name, value, " and ".join(texts))


def check_multiple(settings: Any, name: str, of: str) -> None:
    """Checks that a field is a multiple of another; names as for `check_range`."""
    value, factor = _value(settings, name), _value(settings, of)
    check(value % factor == 0, name, value, f"a multiple of {of}={factor}")


def _value(settings: Any, name: str) -> Any:
    """Returns `settings.hop_ms` of the full name "audio.hop_ms"."""
    return getattr(settings, name.rpartition(".")[2])
