"""The branch of all columns of numbers, categories and dates."""

from collections.abc import Mapping, Sequence

import numpy as np

from mmkeras.config.tabular import TabularConfig
from mmkeras.modalities.branch import Branch
from mmkeras.modalities.column import State
from mmkeras.modalities.tabular.category import FIRST
from mmkeras.modalities.tabular.column import TabularColumn


class Tabular(Branch):
    """Branch of all columns of numbers, categories and dates of a table."""

    name = key = type = "tabular"
    encoder = "mmkeras.modalities.tabular.encoder"

    def __init__(self, columns: Sequence[TabularColumn], settings: TabularConfig):
        self.columns, self.settings = tuple(columns), settings

    @property
    def number_widths(self) -> list[int]:
        """Numbers per column of numbers; each also has a flag of absence."""
        return [column.width for column in self.columns if column.width]

    @property
    def width(self) -> int:
        """Width W of the model's input: numbers, flags and indices of categories."""
        return sum(column.width + 1 for column in self.columns)

    def category_counts(self, state: Mapping[str, State]) -> list[int]:
        """Returns the number of indices per column of categories."""
        names = [column.name for column in self.columns if not column.width]
        return [FIRST + len(state[name]["categories"]) for name in names]

    def graph(self, state):
        from mmkeras.modalities.tabular.graph import TabularGraph

        return TabularGraph(self, state)

    def input(self, state):
        return (self.width,), "float32"

    def build_encoder(self, x, state, tokens):
        build = self.import_encoder().build_tabular_encoder
        counts = self.category_counts(state)
        return build(self.settings, self.number_widths, counts, tokens)(x)

    def linear_features(self, x, state):
        """Returns the scaled numbers with their flags, and categories as one-hot."""
        counts = self.category_counts(state)
        start = x.shape[1] - len(counts)
        blocks = [x[:, :start]]
        for i, count in enumerate(counts):
            blocks.append(np.eye(count, dtype=x.dtype)[x[:, start + i].astype(int)])
        return np.concatenate(blocks, axis=1)
