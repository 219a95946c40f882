"""What preprocessing learns from the training rows: vocabulary, classes, scales."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np

from mmkeras.schema import LABEL_SEPARATOR

BINARY, MULTICLASS, MULTILABEL = "binary", "multiclass", "multilabel"
# Of token numbers; those of the vocabulary stand behind them.
PADDING, UNKNOWN, RESERVED = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Mean and deviation of each number of a vector over the training rows."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class PreprocessingState:
    """Found on the training rows; with the settings it fixes the preprocessing.

    Attributes:
        modalities: In the order of the branches.
        task: binary, multiclass or multilabel.
        classes: Names, in the order of the probability columns.
        class_rows: Training rows of each class.
        rows: Training rows in all.
        vocabulary: Tokens, the most frequent first; or word pieces.
        idf: Weight of each token.
        widths: Numbers in the vector of text and of audio, where in use.
        scales: Of the vectors that are standardised, by modality.
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


def find_classes(labels: Iterable[Sequence[str]]) -> tuple[str, tuple[str, ...]]:
    """Returns the task and the class names, numbers in their order, else sorted."""
    sets = [set(row) for row in labels]
    names = set().union(*sets)
    if any(len(row) > 1 for row in sets):
        task = MULTILABEL
    else:
        task = BINARY if len(names) == 2 else MULTICLASS
    if all(name.isdecimal() for name in names):
        return task, tuple(sorted(names, key=lambda name: (int(name), name)))
    return task, tuple(sorted(names))


def target(label: str, classes: Sequence[str]) -> np.ndarray:
    """Returns (C,) float32: 1 at each class named in `label`, 0 elsewhere."""
    names = label.split(LABEL_SEPARATOR)
    return np.array([name in names for name in classes], np.float32)


def count_rows(rows: Iterable[Iterable[bytes]]) -> tuple[Counter[bytes], int]:
    """Counts in how many rows each token is; returns that and the number of rows."""
    counts, total = Counter(), 0
    for tokens in rows:
        counts.update(set(tokens))
        total += 1
    return counts, total


def choose_vocabulary(
    counts: Mapping[bytes, int], total: int, size: int, min_rows: int
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Chooses the `size` tokens that are in most rows, and their idf.

    Tokens in fewer than `min_rows` rows tell nothing about another row. Ties go by
    the token's bytes, so that the order of the rows does not matter. Where nothing is
    left, one empty token stands in, since a vector has at least one number.

    Args:
        counts: Token -> rows that it is in, of `total` rows.

    Source: idf as in scikit-learn, ln((1 + N) / (1 + df)) + 1.
    """
    common = [(token, df) for token, df in counts.items() if df >= min_rows]
    kept = sorted(common, key=lambda item: (-item[1], item[0]))[:size]
    if not kept:
        return ("",), (1.0,)
    idf = [float(np.log((1 + total) / (1 + df)) + 1) for _, df in kept]
    return tuple(token.decode() for token, _ in kept), tuple(idf)


class Moments:
    """Mean and deviation of vectors that pass by in batches.

    Source: Chan, Golub and LeVeque, 1983, https://doi.org/10.1080/00031305.1983.10483115.
    """

    def __init__(self):
        self.rows, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, vectors: np.ndarray) -> None:
        """Takes (B, D) vectors in."""
        rows = len(vectors)
        if not rows:
            return
        vectors = np.asarray(vectors, np.float64)
        mean = vectors.mean(axis=0)
        delta, total = mean - self.mean, self.rows + rows
        self.squares = (
            self.squares
            + ((vectors - mean) ** 2).sum(axis=0)
            + delta**2 * self.rows * rows / total
        )
        self.mean = self.mean + delta * rows / total
        self.rows = total

    def scale(self, width: int) -> Scale:
        """Returns the scale; a number that never changes gets deviation 1."""
        if not self.rows:
            return unscaled(width)
        return make_scale(self.mean, np.sqrt(self.squares / self.rows))


def unscaled(width: int) -> Scale:
    """Returns the scale that changes nothing."""
    return Scale(mean=(0.0,) * width, deviation=(1.0,) * width)


def make_scale(mean: np.ndarray, deviation: np.ndarray) -> Scale:
    """Returns the scale, to the precision of the float32 that the graph works in."""
    deviation = np.where(deviation > 1e-6, deviation, 1.0)
    mean, deviation = (x.astype(np.float32).tolist() for x in (mean, deviation))
    return Scale(mean=tuple(mean), deviation=tuple(deviation))


def save(state: PreprocessingState, path: Path) -> None:
    """Writes it as JSON."""
    text = json.dumps(asdict(state), ensure_ascii=False, indent=1)
    path.write_text(text, encoding="utf-8")


def load(path: Path) -> PreprocessingState:
    """Reads what `save` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for f in fields(PreprocessingState):
        if isinstance(content[f.name], list):
            content[f.name] = tuple(content[f.name])
    content["scales"] = {
        name: Scale(mean=tuple(s["mean"]), deviation=tuple(s["deviation"]))
        for name, s in content["scales"].items()
    }
    return PreprocessingState(**content)
