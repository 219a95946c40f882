"""What columns of files have in common: several of them may be in one cell."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmkeras.modalities.branch import BranchColumn
from mmkeras.modalities.column import Content, Effects, FileReader, Moments
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.items import pack_items, split_cell, unpack_items

if TYPE_CHECKING:
    import keras
    import numpy as np

    from mmkeras.modalities.row_graph import RowGraph


class FileColumn(BranchColumn):
    """Column of paths of files, or of their content.

    Subclasses handle one file. With `items` above 1 a cell has up to so many files,
    which are encoded one by one and averaged.
    """

    has_files = True
    identifies_row = True
    items = 1

    @abstractmethod
    def read_file(self, content: bytes) -> Content:
        """Reads the content of a file.

        Raises:
            Unreadable: It cannot be used.
        """

    @abstractmethod
    def file_graph(self, state) -> "RowGraph":
        """Builds the preprocessing of one file."""

    @abstractmethod
    def file_input(self, state) -> tuple[tuple[int, ...], str]:
        """Returns shape and dtype of the Keras input of one file."""

    @abstractmethod
    def file_encoder(
        self, shape: tuple[int, ...], state, tokens: bool, name: str
    ) -> "keras.Model":
        """Builds the encoder of one file, (B, *shape)."""

    def read(self, cell: Any, files: FileReader) -> Content:
        """Reads the files of a cell.

        The metadata are those of the first, and so is the warning unless it has none.

        Raises:
            Unreadable: One of them cannot be used, or they are none or too many.
        """
        paths = split_cell(cell, files.folder)
        if not paths:
            raise Unreadable("a list without a file")
        if len(paths) == 1:
            return self.read_file(files.read(paths[0]))
        if len(paths) > self.items:
            raise Unreadable(
                f"{len(paths)} files, more than columns.{self.name}.items={self.items}"
            )
        contents = [self.read_file(files.read(path)) for path in paths]
        return Content(
            data=self.join([content.data for content in contents]),
            digest=b"".join(content.digest for content in contents),
            metadata=contents[0].metadata,
            notes=tuple(note for content in contents for note in content.notes),
            formats=tuple(kind for content in contents for kind in content.formats),
            warning=next((c.warning for c in contents if c.warning), ""),
        )

    def join(self, parts: Sequence[bytes]) -> bytes:
        return pack_items(parts)

    def graph(self, state):
        graph = self.file_graph(state)
        if self.items == 1:
            return graph
        from mmkeras.modalities.items_graph import ItemsGraph

        return ItemsGraph(graph, self.items)

    def moments(self, graph: "RowGraph", width: int, is_sequence: bool) -> Moments:
        """Returns the statistic of what the graph of an unfitted column gives."""

        def vector(data):
            return graph.finish_row(graph.decode_bytes(data))

        if self.items == 1:
            return Moments(vector=vector, width=width, is_sequence=is_sequence)
        from mmkeras.modalities.items_graph import vectors_of_items

        vectors = vectors_of_items(vector, width, is_sequence)
        return Moments(vector=vectors, width=width, is_sequence=True)

    def input(self, state):
        """Returns shape and dtype: of one file, or (items, 1 + N) of `ItemsGraph`."""
        shape, dtype = self.file_input(state)
        if self.items > 1:
            shape = (self.items, 1 + math.prod(shape))
        return shape, dtype

    def build_model(self, state, tokens: bool) -> "keras.Model":
        """Builds the encoder of the branch, whose name `model.backbones` knows."""
        shape, dtype = self.file_input(state)
        name = f"{self.key}_encoder"
        if self.items == 1:
            return self.file_encoder(shape, state, tokens, name)
        from mmkeras.layers.items import encode_items

        encoder = self.file_encoder(shape, state, tokens, "item_encoder")
        return encode_items(encoder, self.items, shape, dtype, name)

    def build_encoder(self, x, state, tokens):
        return self.build_model(state, tokens)(x)

    def apply_encoder(self, encode, x, state):
        if self.items == 1:
            return encode(x)
        from mmkeras.layers.items import encode_each

        return encode_each(encode, x, self.file_input(state)[0], f"{self.key}_")

    def linear_features(self, x, state):
        """Returns (B, D): the mean over the files of a row."""
        if self.items == 1:
            return self.file_features(x, state)
        shape, _ = self.file_input(state)
        flags, files = x[..., :1] != 0, x[..., 1:].reshape(-1, *shape)
        features = self.file_features(files, state).reshape(*x.shape[:2], -1)
        return (flags * features).sum(axis=1) / flags.sum(axis=1).clip(min=1)

    def corrupt(self, data: bytes, level: float, seed: Sequence[int]) -> bytes:
        files = unpack_items(data)
        return pack_items([self.corrupt_file(file, level, seed) for file in files])

    def explain(self, data: bytes, effects: Effects) -> dict[str, Any] | None:
        """Returns the effects of the parts of the first file."""
        first, *others = unpack_items(data)

        def effects_of_first(contents):
            return effects(pack_items([content, *others]) for content in contents)

        return self.explain_file(first, effects_of_first)

    def draw(self, data: bytes, explained) -> dict[str, Any]:
        return self.draw_file(unpack_items(data)[0], explained)

    def draw_places(
        self, data: bytes, weights: "np.ndarray", scale: float
    ) -> bytes | None:
        """Draws weights of the tokens over the file, unless there can be several."""
        if self.items > 1:
            return None
        return self.draw_file_places(unpack_items(data)[0], weights, scale)

    def preview(self, data: bytes) -> dict[str, Any]:
        return self.preview_file(unpack_items(data)[0])

    # As the methods without "file", of one file.

    def file_features(self, x: "np.ndarray", state) -> "np.ndarray":
        return x

    def corrupt_file(self, data: bytes, level: float, seed: Sequence[int]) -> bytes:
        raise NotImplementedError

    def explain_file(self, data: bytes, effects: Effects) -> dict[str, Any] | None:
        return None

    def draw_file(self, data: bytes, explained) -> dict[str, Any]:
        raise NotImplementedError

    def draw_file_places(
        self, data: bytes, weights: "np.ndarray", scale: float
    ) -> bytes | None:
        return None

    @abstractmethod
    def preview_file(self, data: bytes) -> dict[str, Any]:
        """Returns the preview of one file."""
