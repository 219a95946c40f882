"""Exceptions of mmkeras, and phrases that their messages share."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

_MAX_NAMES = 10
_MAX_EXAMPLES = 2  # about a line of text


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


class Examples:
    """The first two of any number of texts, for one warning.

    Example:
        str(Examples(["id 'r1'", "id 'r4'", "id 'r7'"]))
        # "id 'r1', id 'r4', and 1 more"
    """

    def __init__(self, texts: Iterable[str] = ()):
        self._first: list[str] = []
        self._more = 0
        self.add(texts)

    def add(self, texts: Iterable[str]) -> None:
        for text in texts:
            if len(self._first) < _MAX_EXAMPLES:
                self._first.append(text)
            else:
                self._more += 1

    def __bool__(self) -> bool:
        return bool(self._first)

    def __str__(self) -> str:
        more = [f"and {self._more} more"] if self._more else []
        return ", ".join([*self._first, *more])


def warn_of_faults(faults: Examples, end: str = "") -> list[str]:
    """Returns a warning of faults of files that are read nevertheless, or []."""
    return [f"Files with faults were read whole: {faults}{end}."] if faults else []
