"""A preprocessing state for any settings, as if training rows had been read."""

from mmkeras.config import Config
from mmkeras.modalities.column import Counts
from mmkeras.modalities.columns import build_branches, build_columns
from mmkeras.modalities.preprocessing_state import MULTICLASS, PreprocessingState

# Token -> number of training rows with it, of nine.
COUNTS = {b"the": 9, b"cat": 4, b"cow": 3, b"dog": 2}


def fitted_state(config: Config, counts=None, **changes) -> PreprocessingState:
    """Returns a state of the columns of the settings, without scales.

    `counts` are those of tokens; `changes` are other fields of the state.
    """
    columns = build_columns(config)
    fields = {
        "branches": {
            branch.name: tuple(column.name for column in branch.columns)
            for branch in build_branches(columns, config)
        },
        "columns": {c.name: c.fit(_result(c, counts or COUNTS)) for c in columns},
        "task": MULTICLASS,
        "classes": ("cat", "cow", "dog"),
        "class_rows": (2, 3, 4),
    }
    return PreprocessingState(**{**fields, **changes})


def _result(column, counts):
    return (counts, 9) if isinstance(column.statistics(), Counts) else None
