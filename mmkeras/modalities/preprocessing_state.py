"""Statistics of the training rows for preprocessing: classes, and those of columns."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmkeras.config.validation import AUTO
from mmkeras.files import atomic_path
from mmkeras.names import clean_name
from mmkeras.schema import LABEL_SEPARATOR

BINARY, MULTICLASS, MULTILABEL = "binary", "multiclass", "multilabel"
REGRESSION, GENERATE = "regression", "generate"
# Token ids; those of the vocabulary begin at RESERVED.
PADDING, UNKNOWN, RESERVED = 0, 1, 2
# Token ids of generated texts; those of the vocabulary begin at FIRST_TOKEN.
START, END, FIRST_TOKEN = 2, 3, 4
MAX_DEVIATIONS = 5.0  # so that one outlier does not decide the prediction
NO_TOKENS = ("",)  # vocabulary without tokens: a vector has at least one element


@dataclass(frozen=True, kw_only=True)
class LabelScale:
    """Mean and deviation of the labels of a regression over the training rows."""

    mean: float
    deviation: float


@dataclass(frozen=True, kw_only=True)
class TextStatistics:
    """Statistics of the texts of the label column, for a generator.

    Attributes:
        vocabulary: Tokens in the order of their ids.
        longest: Number of tokens of the longest training text.
        most_frequent: The most frequent training text.
        unknown_share: Share of the tokens of the training texts that are not in the
            vocabulary.
    """

    vocabulary: tuple[str, ...]
    longest: int
    most_frequent: str
    # Earlier runs lack it, and it follows from the rows and the vocabulary.
    unknown_share: float = field(default=0.0, compare=False)


@dataclass(frozen=True, kw_only=True)
class PreprocessingState:
    """Statistics of the training rows; with the settings they define preprocessing.

    Attributes:
        branches: Branch -> its columns, in the order of the branches.
        columns: Column -> what it learned: `Column.fit`.
        task: binary, multiclass, multilabel, regression or generate.
        classes: Names in the order of the probability columns; () if the labels are
            numbers or texts.
        class_rows: Number of training rows per class.
        rows: Number of training rows.
        label_scale: Scale of the labels of a regression, else None.
        texts: Statistics of the labels of a generator, else None.
    """

    branches: dict[str, tuple[str, ...]]
    columns: dict[str, dict[str, Any]]
    task: str
    classes: tuple[str, ...]
    class_rows: tuple[int, ...]
    rows: int = 0
    label_scale: LabelScale | None = None
    texts: TextStatistics | None = None


def find_classes(
    labels: Iterable[Sequence[str]], task: str = AUTO, columns: Sequence[str] = ()
) -> tuple[str, tuple[str, ...]]:
    """Returns the task and the class names, in numeric order if all are numbers.

    A `task` of auto is multilabel if a row has not just one label, or if several
    `columns` of 0 and 1 are the classes. Numbers and texts are no classes.
    """
    if task in (REGRESSION, GENERATE):
        return task, ()
    sets = [set(row) for row in labels]
    names = set().union(*sets)
    if task == AUTO:
        several = len(columns) > 1 and names <= set(columns)
        if several or any(len(row) != 1 for row in sets):
            task = MULTILABEL
        else:
            task = BINARY if len(names) == 2 else MULTICLASS
    if all(name.isdecimal() for name in names):
        return task, tuple(sorted(names, key=lambda name: (int(name), name)))
    return task, tuple(sorted(names))


def fit_label_scale(labels: Mapping[str | bytes, int]) -> LabelScale:
    """Returns mean and deviation of numbers; `labels` is number -> number of rows.

    The result does not depend on their order.
    """
    numbers, rows = np.array(sorted((float(x), n) for x, n in labels.items())).T
    mean = np.average(numbers, weights=rows)
    deviation = np.sqrt(np.average((numbers - mean) ** 2, weights=rows))
    return LabelScale(mean=float(mean), deviation=float(deviation) or 1.0)


def target(label: str, classes: Sequence[str]) -> np.ndarray:
    """Returns (C,) float32: 1 at each class named in `label`, 0 elsewhere."""
    names = label.split(LABEL_SEPARATOR)
    return np.array([name in names for name in classes], np.float32)


def count_rows(rows: Iterable[Iterable[bytes]]) -> tuple[Counter[bytes], int]:
    """Returns token -> number of rows that contain it, and the number of rows."""
    counts, total = Counter(), 0
    for tokens in rows:
        counts.update(set(tokens))
        total += 1
    return counts, total


class Moments:
    """Running mean and deviation of batches of vectors.

    Source: Chan, Golub and LeVeque, 1983, https://doi.org/10.1080/00031305.1983.10483115.
    """

    def __init__(self):
        self.rows, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, vectors: np.ndarray) -> None:
        """Adds (B, D) vectors."""
        rows = len(vectors)
        if not rows:
            return
        vectors = np.asarray(vectors, np.float64)
        mean = vectors.mean(axis=0)
        delta, total = mean - self.mean, self.rows + rows
        squares = self.squares + ((vectors - mean) ** 2).sum(axis=0)
        self.squares = squares + delta**2 * self.rows * rows / total
        self.mean = self.mean + delta * rows / total
        self.rows = total

    def result(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns mean and deviation, (D,) float64; None without any vector."""
        if not self.rows:
            return None
        return self.mean, np.sqrt(self.squares / self.rows)


def scale_state(
    result: tuple[np.ndarray, np.ndarray] | None, width: int
) -> dict[str, list[float]]:
    """Returns mean and deviation, rounded to the float32 of the graph.

    A constant element gets the deviation 1; in float32 it has rounding errors of its
    size. Without rows the scale is the identity.
    """
    if result is None:
        return {"mean": [0.0] * width, "deviation": [1.0] * width}
    mean, deviation = result
    deviation = np.where(deviation > 1e-6 * np.abs(mean), deviation, 1.0)
    scale = {"mean": mean, "deviation": deviation}
    return {name: x.astype(np.float32).tolist() for name, x in scale.items()}


def save(state: PreprocessingState, path: Path) -> None:
    """Writes the state as JSON."""
    text = json.dumps(asdict(state), ensure_ascii=False, indent=1)
    with atomic_path(path) as tmp_path:
        tmp_path.write_text(text, encoding="utf-8")


def load(path: Path) -> PreprocessingState:
    """Reads a file that `save` has written."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if "modalities" in content:
        content = _from_earlier_version(content)
    for name in ("classes", "class_rows"):
        content[name] = tuple(content[name])
    content["branches"] = {b: tuple(names) for b, names in content["branches"].items()}
    if scale := content.get("label_scale"):
        content["label_scale"] = LabelScale(**scale)
    if texts := content.get("texts"):
        vocabulary = tuple(texts.pop("vocabulary"))
        content["texts"] = TextStatistics(vocabulary=vocabulary, **texts)
    # Earlier versions kept invisible characters, which labels of a table have no more.
    clean = tuple(map(clean_name, content["classes"]))
    if all(clean) and len(set(clean)) == len(clean):
        content["classes"] = clean
    return PreprocessingState(**content)


def _from_earlier_version(content: dict[str, Any]) -> dict[str, Any]:
    """Converts a state of before columns, with text, image and audio."""
    old = {name: content.pop(name) for name in ("modalities", "widths", "scales")}
    words = {name: content.pop(name) for name in ("vocabulary", "idf")}
    columns = {name: dict(old["scales"].get(name, {})) for name in old["modalities"]}
    for name, width in old["widths"].items():
        if name in columns:
            columns[name]["width"] = width
    if words["vocabulary"]:
        columns["text"] |= words
    branches = {name: [name] for name in columns}
    return {**content, "branches": branches, "columns": columns}
