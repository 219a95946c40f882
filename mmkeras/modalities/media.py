"""Recognition of columns of media files by their cells."""

from collections.abc import Callable, Sequence
from typing import Any

from mmkeras.files import is_remote
from mmkeras.modalities.column import FileReader
from mmkeras.modalities.items import split_cell

_LOOKED_AT = 20  # cells whose file is looked for
_HEAD_BYTES = 4096  # of a file, for its signature


def count_media(
    cells: Sequence[Any],
    files: FileReader,
    suffixes: tuple[str, ...],
    is_kind: Callable[[bytes], bool],
    kind: str,
) -> str:
    """Returns why a column of present cells holds media of a kind, or "".

    Most of the first cells are paths of existing files with a suffix or the signature
    of the kind, or are the content of such files.
    """
    cells = [split_cell(cell, files.folder)[0] for cell in cells]
    contents = [cell for cell in cells[:_LOOKED_AT] if isinstance(cell, bytes)]
    if contents:
        is_media = sum(map(is_kind, contents)) > len(contents) / 2
        return f"content of {kind}" if is_media else ""
    paths = [files.find(str(cell).strip()) for cell in cells[:_LOOKED_AT]]
    count = sum(_is_media(path, suffixes, is_kind) for path in paths)
    return f"paths of {kind}" if count > len(paths) / 2 else ""


def _is_media(path: str, suffixes: tuple[str, ...], is_kind) -> bool:
    """Whether a path is that of an existing file of a kind, by suffix or content."""
    has_suffix = path.lower().endswith(suffixes)
    if is_remote(path):
        return has_suffix
    try:
        with open(path, "rb") as file:
            return has_suffix or is_kind(file.read(_HEAD_BYTES))
    except (OSError, ValueError):  # ValueError: no possible path
        return False
