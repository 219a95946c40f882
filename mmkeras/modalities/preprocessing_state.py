"""Statistics of the training rows for preprocessing: vocabulary, classes, scales."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from mmkeras.config.validation import AUTO
from mmkeras.files import atomic_path
from mmkeras.names import clean_name
from mmkeras.schema import LABEL_SEPARATOR

BINARY, MULTICLASS, MULTILABEL = "binary", "multiclass", "multilabel"
REGRESSION = "regression"
# Token ids; those of the vocabulary begin at RESERVED.
PADDING, UNKNOWN, RESERVED = 0, 1, 2
NO_TOKENS = ("",)  # vocabulary without tokens: a vector has at least one element


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Mean and deviation of each number of a vector over the training rows."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class PreprocessingState:
    """Statistics of the training rows; with the settings they define preprocessing.

    Attributes:
        modalities: Names in the order of the branches.
        task: binary, multiclass, multilabel or regression.
        classes: Names in the order of the probability columns; () in regression.
        class_rows: Number of training rows per class.
        vocabulary: Tokens, the most frequent first; or word pieces.
        widths: Input widths of text and audio.
        label_scale: Mean and deviation of the labels of a regression; else None.
    """

    modalities: tuple[str, ...]
    task: str
    classes: tuple[str, ...]
    class_rows: tuple[int, ...]
    rows: int = 0
    vocabulary: tuple[str, ...] = ()
    idf: tuple[float, ...] = ()
    widths: dict[str, int] = field(default_factory=dict)
    scales: dict[str, Scale] = field(default_factory=dict)
    label_scale: Scale | None = None


def find_classes(
    labels: Iterable[Sequence[str]], task: str = AUTO, columns: Sequence[str] = ()
) -> tuple[str, tuple[str, ...]]:
    """Returns the task and the class names, in numeric order if all are numbers.

    A `task` of auto is multilabel if a row has not just one label, or if several
    `columns` of 0 and 1 are the classes.
    """
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


def fit_label_scale(labels: Mapping[str, int]) -> Scale:
    """Returns mean and deviation of numbers; `labels` is number -> number of rows."""
    numbers, rows = np.array([*map(float, labels)]), np.array([*labels.values()])
    mean = np.average(numbers, weights=rows)
    deviation = np.sqrt(np.average((numbers - mean) ** 2, weights=rows))
    return Scale(mean=(float(mean),), deviation=(float(deviation) or 1.0,))


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


def choose_vocabulary(
    counts: Mapping[bytes, int], total: int, size: int, min_rows: int
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Returns the `size` tokens with the most rows, at least `min_rows`, and their idf.

    `counts` is token -> number of rows that contain it, of `total`. Equal counts are
    ordered by the token's bytes, so that the order of the rows does not matter. Without
    any token the vocabulary is `NO_TOKENS`.

    Source: idf as in scikit-learn, ln((1 + N) / (1 + df)) + 1.
    """
    common = [item for item in counts.items() if item[1] >= min_rows]
    top = sorted(common, key=lambda item: (-item[1], item[0]))[:size]
    if not top:
        return NO_TOKENS, (1.0,)
    idf = [float(np.log((1 + total) / (1 + df)) + 1) for _, df in top]
    return tuple(token.decode() for token, _ in top), tuple(idf)


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

    def scale(self, width: int) -> Scale:
        """Returns the scale; a constant element gets deviation 1."""
        if not self.rows:
            return unscaled(width)
        return make_scale(self.mean, np.sqrt(self.squares / self.rows))


def unscaled(width: int) -> Scale:
    """Returns the identity: mean 0 and deviation 1."""
    return Scale(mean=(0.0,) * width, deviation=(1.0,) * width)


def make_scale(mean: np.ndarray, deviation: np.ndarray) -> Scale:
    """Returns the scale, rounded to the float32 of the graph."""
    deviation = np.where(deviation > 1e-6, deviation, 1.0)
    mean, deviation = (x.astype(np.float32).tolist() for x in (mean, deviation))
    return Scale(mean=tuple(mean), deviation=tuple(deviation))


def save(state: PreprocessingState, path: Path) -> None:
    """Writes the state as JSON."""
    text = json.dumps(asdict(state), ensure_ascii=False, indent=1)
    with atomic_path(path) as tmp_path:
        tmp_path.write_text(text, encoding="utf-8")


def load(path: Path) -> PreprocessingState:
    """Reads a file that `save` has written."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for name, value in content.items():
        content[name] = tuple(value) if isinstance(value, list) else value
    content["scales"] = {
        name: Scale(mean=tuple(s["mean"]), deviation=tuple(s["deviation"]))
        for name, s in content["scales"].items()
    }
    if scale := content.get("label_scale"):
        values = {name: tuple(numbers) for name, numbers in scale.items()}
        content["label_scale"] = Scale(**values)
    # Earlier versions kept invisible characters, which labels of a table have no more.
    clean = tuple(map(clean_name, content["classes"]))
    if all(clean) and len(set(clean)) == len(clean):
        content["classes"] = clean
    return PreprocessingState(**content)
