"""Columns of categories."""

from collections.abc import Sequence
from typing import Any

from mmkeras.modalities.column import Content, Counts, FileReader
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.preprocessing_state import NO_TOKENS
from mmkeras.modalities.tabular.column import TabularColumn, cell_text
from mmkeras.modalities.tabular.numeric import has_words, parse_numbers
from mmkeras.modalities.vocabulary import choose_vocabulary
from mmkeras.names import clean_name

UNSEEN, FIRST = 1, 2  # 0 is absent
_MAX_DISTINCT, _MAX_INTEGERS, _MAX_CHARACTERS = 50, 10, 40


class Category(TabularColumn):
    """Column with one of a few texts per row.

    Absent values, and those unseen in training, have an index of their own.
    """

    type = "category"

    @classmethod
    def recognise(cls, cells: Sequence[Any], files: FileReader) -> str:
        if any(isinstance(cell, tuple) for cell in cells):
            return ""
        names = {clean_name(cell_text(cell)) for cell in cells}
        limit = min(_MAX_DISTINCT, len(cells) // 2)
        if not 2 <= len(names) <= limit or max(map(len, names)) > _MAX_CHARACTERS:
            return ""
        numbers = [] if has_words(cells) else parse_numbers(cells)
        if len(set(numbers)) > _MAX_INTEGERS or not all(
            x.is_integer() for x in numbers
        ):
            return ""
        return f"{len(names)} distinct values"

    def read(self, cell: Any, files: FileReader) -> Content:
        data = clean_name(cell_text(cell)).encode("utf-8", "replace")
        if not data:
            raise Unreadable("no visible character")
        return Content(data=data, digest=data)

    def statistics(self) -> Counts:
        import tensorflow as tf

        def tokens(values):
            return tf.RaggedTensor.from_tensor(_clean(values)[:, None])

        return Counts(tokens=tokens, min_rows=self.settings.min_rows)

    def fit(self, result):
        counts, rows = result
        counts = {name: n for name, n in counts.items() if name}
        limits = (self.settings.max_categories, self.settings.min_rows)
        names, _ = choose_vocabulary(counts, rows, *limits)
        return {"categories": [] if names == NO_TOKENS else list(names)}

    def indices(self, values, state):
        import tensorflow as tf

        names = tf.constant(state["categories"], tf.string)
        values = _clean(values)
        matches = tf.cast(values[:, None] == names, tf.int32)  # (B, V)
        known = tf.range(FIRST, FIRST + names.shape[0])
        index = tf.maximum(tf.reduce_sum(matches * known, axis=1), UNSEEN)
        return tf.where(values == "", 0, index)


def _clean(values):
    import tensorflow as tf

    return tf.strings.strip(tf.strings.regex_replace(values, r"\s+", " "))
