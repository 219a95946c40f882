"""The exceptions of mmkeras, and the phrases that their messages share."""

from collections.abc import Sequence
from difflib import get_close_matches

_SHOWN_NAMES = 10


class UserError(ValueError):
    """Bad input or setting; shown as one line, without a traceback, exit code 2.

    The message says what is wrong with the value received, what is allowed and
    what to do about it.
    """


class ExportMismatchError(RuntimeError):
    """The export does not answer as the trained model; it is not kept."""


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Returns " Did you mean 'x'?" for a near miss, else the list of what is known."""
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else f" Known: {', '.join(known)}."


def format_names(names: Sequence[str]) -> str:
    """Returns up to ten quoted names, and how many more there are."""
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(f"'{name}'" for name in names[:_SHOWN_NAMES]) + more
