"""Paths with characters that TensorFlow, TFX and Beam read as parts of a pattern."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmkeras.errors import UserError
from mmkeras.files import is_remote

# On Windows "\\" separates folders.
_PATTERN = re.compile(r"[*?\[]" if os.name == "nt" else r"[*?\[\\]")


def has_pattern(path: str | Path) -> bool:
    """Whether TensorFlow, TFX or Beam would take a path for a pattern of paths."""
    return bool(_PATTERN.search(str(path)))


def check_no_pattern(name: str, path: str | Path) -> None:
    """Checks a path, the value of the flag or setting `name`, that becomes a pattern.

    Raises:
        UserError: The path has `*`, `?`, `[` or `\\`.
    """
    if has_pattern(path):
        separator = " " if name.startswith("--") else "="
        raise UserError(
            f"{name}{separator}'{path}' has one of the characters * ? [ \\, with which "
            "the path would be read as a pattern; give a path without them."
        )


@contextmanager
def path_without_pattern(folder: str | os.PathLike) -> Iterator[str | os.PathLike]:
    """Yields the path of a folder; if it is like a pattern, that of a temporary link.

    TensorFlow's loader takes the path of the variables for a pattern, and then opens
    it as it is, so that escaped characters would not be found either.

    Example:
        with path_without_pattern("runs/my [1] run/export/1") as path:
            load(path)  # /tmp/tmpk2x0/folder
    """
    if is_remote(folder) or not has_pattern(folder):
        yield folder
        return
    parents = (tempfile.gettempdir(), "/tmp", "/var/tmp")
    parent = next(path for path in parents if not has_pattern(path))
    with tempfile.TemporaryDirectory(dir=parent) as tmp_folder:
        link = Path(tmp_folder) / "folder"
        link.symlink_to(Path(folder).absolute(), target_is_directory=True)
        yield link
