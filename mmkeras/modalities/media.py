"""Recognition of columns of media files by their cells."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from mmkeras.files import is_remote
from mmkeras.modalities.column import FileReader

_LOOKED_AT = 20  # cells whose file is looked for


def count_media(
    cells: Sequence[Any],
    files: FileReader,
    suffixes: tuple[str, ...],
    is_kind: Callable[[bytes], bool],
    kind: str,
) -> str:
    """Returns why a column of present cells holds media of a kind, or "".

    Most of the cells are paths with a suffix of the kind and most of the first files
    exist, or most of them are the content of such files.
    """
    contents = [cell for cell in cells[:_LOOKED_AT] if isinstance(cell, bytes)]
    if contents:
        is_media = sum(map(is_kind, contents)) > len(contents) / 2
        return f"content of {kind}" if is_media else ""
    paths = [str(cell).strip() for cell in cells]
    named = [path for path in paths if path.lower().endswith(suffixes)]
    if len(named) <= len(paths) / 2:
        return ""
    first = [files.find(path) for path in named[:_LOOKED_AT]]
    existing = sum(is_remote(path) or os.path.exists(path) for path in first)
    return f"paths of {kind}" if existing > len(first) / 2 else ""
