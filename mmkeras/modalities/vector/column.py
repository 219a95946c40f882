"""Columns of precomputed vectors."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from mmkeras.modalities.column import Content, FileReader, Moments
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.file_column import FileColumn
from mmkeras.modalities.items import split_cell
from mmkeras.modalities.vector.npy import NPY


class Vector(FileColumn):
    """Column of paths of .npy vectors, or of their content.

    A column of another type with encoder "vector" is such a column, too.
    """

    type = "vector"
    encoder_settings = ("dropout", "units")
    encoder = "mmkeras.modalities.vector.encoder"

    def __init__(self, name: str, settings: Any, width: int = 0, type: str = "vector"):
        """`width` is that of all vectors, 0 if it is not known yet."""
        super().__init__(name, settings)
        self.width, self.type = width, type

    @classmethod
    def recognise(cls, cells: Sequence[Any], files: FileReader) -> str:
        cells = [split_cell(cell, files.folder)[0] for cell in cells]
        if all(isinstance(c, bytes) and c.startswith(NPY) for c in cells):
            return "vectors" if _have_one_width(cells) else ""
        is_path = all(isinstance(c, str) and c.strip().endswith(".npy") for c in cells)
        return "paths of .npy files" if is_path else ""

    def read_file(self, content: bytes) -> Content:
        data, _ = self.prepare(content)
        return Content(data=data, digest=content)

    def prepare(self, content: bytes) -> tuple[bytes, tuple[str, ...]]:
        from mmkeras.modalities.vector.reading import prepare_vector, vector_width

        data = prepare_vector(content)
        if self.width and vector_width(data) != self.width:
            width = vector_width(data)
            raise Unreadable(f"{width} numbers where others have {self.width}")
        return data, ()

    def read_key(self) -> Any:
        return ["vector", self.width]

    def fit_key(self) -> Any:
        return ["vector", self.width]

    def statistics(self) -> Moments:
        return self.moments(self.file_graph({self.name: {}}), self.width, False)

    def fit(self, result: Any) -> dict[str, Any]:
        from mmkeras.modalities.preprocessing_state import scale_state

        return {"width": self.width, **scale_state(result, self.width)}

    def file_graph(self, state):
        from mmkeras.modalities.vector.graph import VectorGraph

        return VectorGraph(self, state[self.name])

    @property
    def is_sequence(self) -> bool:
        return False

    def file_input(self, state):
        return (self.width,), "float32"

    def file_encoder(self, shape, state, tokens, name):
        build = self.import_encoder().build_vector_encoder
        return build(self.settings, shape[0], name)

    def preview_file(self, data: bytes) -> dict[str, Any]:
        return {"kind": "text", "content": "(a vector)"}


def _have_one_width(cells: Sequence[bytes]) -> bool:
    """Whether most .npy files have the same width."""
    from mmkeras.modalities.vector.reading import vector_width

    widths = Counter()
    for cell in cells:
        with suppress(Unreadable):
            widths[vector_width(cell)] += 1
    return bool(widths) and max(widths.values()) > len(cells) / 2
