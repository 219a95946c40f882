"""Output of long steps: lines and progress bars, which the Python API turns off."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_IS_QUIET: ContextVar[bool] = ContextVar("mmkeras_is_quiet", default=False)


@contextmanager
def output(verbose: bool) -> Iterator[None]:
    """Turns the output of all steps in the block on or off, in this thread only.

    Example:
        with output(verbose=False):
            train(folder, config, table)
    """
    token = _IS_QUIET.set(not verbose)
    try:
        yield
    finally:
        _IS_QUIET.reset(token)


def say(*texts: str, **options: Any) -> None:
    """Prints a line, unless the output is off; `options` are those of `print`."""
    if not _IS_QUIET.get():
        print(*texts, **options)


def progress(
    rows: Iterable | None = None,
    desc: str = "",
    total: int | None = None,
    **options: Any,
) -> Any:
    """Returns a bar of tqdm, shown on a terminal only, unless the output is off."""
    from tqdm import tqdm

    is_off = True if _IS_QUIET.get() else None  # None: off where there is no terminal
    return tqdm(rows, desc, total, disable=is_off, **options)
