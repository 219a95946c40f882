"""Columns of precomputed vectors."""

from collections.abc import Sequence
from typing import Any

from mmkeras.modalities.column import BranchColumn, Content, FileReader, Moments
from mmkeras.modalities.file import Unreadable

_PREFIX = b"\x93NUMPY"


class Vector(BranchColumn):
    """Column of paths of .npy vectors, or of their content.

    A column of another type with encoder "vector" is such a column, too.
    """

    type = "vector"
    has_files = True
    identifies_row = True
    encoder_settings = ("dropout", "units")

    def __init__(self, name: str, settings: Any, width: int = 0, type: str = "vector"):
        """`width` is that of all vectors, 0 if it is not known yet."""
        super().__init__(name, settings)
        self.width, self.type = width, type

    @classmethod
    def recognise(cls, cells: Sequence[Any], files: FileReader) -> str:
        if all(isinstance(c, bytes) and c.startswith(_PREFIX) for c in cells):
            return "vectors"
        is_path = all(isinstance(c, str) and c.strip().endswith(".npy") for c in cells)
        return "paths of .npy files" if is_path else ""

    def read(self, cell: Any, files: FileReader) -> Content:
        content = files.read(cell)
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
        graph = self.graph({self.name: {}})
        return Moments(
            vector=lambda data: graph.finish_row(graph.decode_bytes(data)),
            width=self.width,
        )

    def fit(self, result: Any) -> dict[str, Any]:
        from mmkeras.modalities.preprocessing_state import scale_state

        return {"width": self.width, **scale_state(result, self.width)}

    def graph(self, state):
        from mmkeras.modalities.vector.graph import VectorGraph

        return VectorGraph(self, state[self.name])

    @property
    def is_sequence(self) -> bool:
        return False

    def input(self, state):
        return (self.width,), "float32"

    def build_encoder(self, x, state, tokens):
        from mmkeras.modalities.vector.encoder import build_vector_encoder

        return build_vector_encoder(self.settings, x.shape[1], f"{self.key}_encoder")(x)

    def preview(self, data: bytes) -> dict[str, Any]:
        return {"kind": "text", "content": "(a vector)"}
