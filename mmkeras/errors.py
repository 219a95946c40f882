"""Exceptions of mmkeras, and phrases that their messages share."""

from collections.abc import Sequence
from difflib import get_close_matches

_MAX_NAMES = 10


class UserError(ValueError):
    """Bad input or setting; shown as one line, without a traceback, exit code 2.

    The message names the wrong value, the allowed values and the remedy.
    """


class LostWorkerError(UserError):
    """Another worker of a training is gone, so TensorFlow cannot shut down cleanly."""


class ExportMismatchError(RuntimeError):
    """An export whose outputs differ from those of the trained model."""


def one_line(error: object, limit: int | None = None) -> str:
    """Returns the text of an error on one line, cut to `limit` characters."""
    return " ".join(str(error).split())[:limit]


def shorten(text: str, limit: int) -> str:
    """Returns the text, cut to `limit` characters with "..." at the end."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Returns " Did you mean 'x'?" for a near miss, else the list of known names."""
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else f" Known: {', '.join(known)}."


def format_names(names: Sequence[str]) -> str:
    """Returns up to ten quoted names, and the number of the others."""
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(f"'{name}'" for name in names[:_MAX_NAMES]) + more
