"""Accuracy on small tables: the default settings, `linear` and scikit-learn.

    python -m benchmarks.small_tables [--seeds 3] [--tables iris,wine]

A third of the rows of each table, the same for all seeds, is for test. The default
preset and `linear` train on the others, of which they take 15 % for validation;
scikit-learn's `LogisticRegression` is fitted to all others: to standardized vectors,
pixels and spectra, and to TF-IDF of words. The difference is that of the default to the
better. Tables with images have `small-concat` in place of the default
`resnet50-concat`, whose weights are a download.
"""

import argparse
import contextlib
import csv
import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import numpy as np
import soundfile
from PIL import Image
from sklearn import datasets
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from mmkeras.cli import run_program
from mmkeras.config import Config
from mmkeras.config.presets import linear, resnet50_concat, small_concat
from mmkeras.data.demo_dataset import TABLE_FILE, make_dataset
from mmkeras.errors import UserError, did_you_mean
from mmkeras.files import csv_text, write_text

TEST_SHARE = 1 / 3
MODELS = ("default", "linear", "scikit-learn")
_COLORS = "red orange yellow green blue violet black white gray brown".split()
_THINGS = "car bus ship train bike plane tram boat van truck".split()
_BANDS = 32


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Labels and columns of N rows.

    A cell is a text; a vector (D,) float32; an image (H, W) uint8; bytes of a file; or
    "" if the row lacks the modality.
    """

    labels: list[str]
    columns: dict[str, list]

    def take(self, indices: Sequence[int]) -> "Rows":
        """Returns some of the rows."""
        columns = {m: [cells[i] for i in indices] for m, cells in self.columns.items()}
        return Rows(labels=[self.labels[i] for i in indices], columns=columns)


def _vectors(load: Callable, rows: int) -> Rows:
    """Returns vectors of a data set of scikit-learn, as precomputed audio vectors."""
    x, y = load(return_X_y=True)
    if len(set(y)) > 20:  # a regression: above the median or not
        y = (y > np.median(y)).astype(int)
    chosen = np.random.default_rng(0).permutation(len(x))[:rows]
    vectors = [row.astype(np.float32) for row in x[chosen]]
    return Rows(labels=[f"c{label}" for label in y[chosen]], columns={"audio": vectors})


def _digits(rows: int) -> Rows:
    """Returns images of handwritten digits, 8 x 8 pixels enlarged to 32 x 32."""
    data = datasets.load_digits()
    chosen = np.random.default_rng(0).permutation(len(data.images))[:rows]
    pixels = np.kron(data.images[chosen] * 15.9, np.ones((1, 4, 4))).astype(np.uint8)
    labels = [f"c{label}" for label in data.target[chosen]]
    return Rows(labels=labels, columns={"image": list(pixels)})


def _texts(rows: int, classes: int, noise: float) -> Rows:
    """Returns sentences whose color is that of the class, or with `noise` any color."""
    rng, labels, texts = np.random.default_rng(0), [], []
    for i in range(rows):
        color = _COLORS[i % classes]
        labels.append(color)
        shown = rng.choice(_COLORS[:classes]) if rng.random() < noise else color
        things = rng.choice(_THINGS, 3)
        texts.append(f"a {things[0]} and a {shown} {things[1]} near the {things[2]}")
    return Rows(labels=labels, columns={"text": texts})


def _demo(rows: int, *modalities: str) -> Rows:
    """Returns rows of the demo data set that have one of these modalities."""
    with tempfile.TemporaryDirectory() as folder:
        table = make_dataset(Path(folder) / "demo", rows) / TABLE_FILE
        with table.open(newline="", encoding="utf-8") as file:
            cells = [r for r in csv.DictReader(file) if any(r[m] for m in modalities)]
        columns = {m: [row[m] for row in cells] for m in modalities}
        for m in set(modalities) & {"image", "audio"}:
            paths = [table.parent / cell if cell else None for cell in columns[m]]
            columns[m] = [path.read_bytes() if path else "" for path in paths]
    return Rows(labels=[row["label"] for row in cells], columns=columns)


TABLES: dict[str, Callable[[], Rows]] = {
    "iris": lambda: _vectors(datasets.load_iris, 150),
    "wine": lambda: _vectors(datasets.load_wine, 178),
    "cancer": lambda: _vectors(datasets.load_breast_cancer, 300),
    "diabetes": lambda: _vectors(datasets.load_diabetes, 300),
    "digits-60": lambda: _digits(60),
    "digits-200": lambda: _digits(200),
    "digits-500": lambda: _digits(500),
    "texts-30": lambda: _texts(30, 2, 0.0),
    "texts-56": lambda: _texts(56, 3, 0.1),
    "texts-200": lambda: _texts(200, 6, 0.2),
    "phrases-300": lambda: _demo(300, "text"),
    "demo-100": lambda: _demo(100, "text", "image", "audio"),
    "demo-400": lambda: _demo(400, "text", "image", "audio"),
}


def split_rows(rows: Rows) -> list[str]:
    """Returns test for a third of the rows, stratified by label; else train."""
    order = np.arange(len(rows.labels))
    settings = {"test_size": TEST_SHARE, "stratify": rows.labels, "random_state": 0}
    _, test = train_test_split(order, **settings)
    return ["test" if i in set(test) else "train" for i in order]


def write_table(folder: Path, rows: Rows, splits: Sequence[str]) -> Path:
    """Writes a table with its files; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [["label", "split", *rows.columns]]
    for i, (label, split) in enumerate(zip(rows.labels, splits, strict=True)):
        cells = [column[i] for column in rows.columns.values()]
        names = [_write(folder / f"{i}-{k}", cell) for k, cell in enumerate(cells)]
        lines.append([label, split, *names])
    write_text(folder / "data.csv", csv_text(lines))
    return folder / "data.csv"


def _write(path: Path, cell) -> str:
    """Writes the file of a cell; returns the text for the table."""
    if isinstance(cell, bytes):
        path = path.with_suffix(".bin")
        path.write_bytes(cell)
    elif isinstance(cell, np.ndarray) and cell.ndim == 1:
        path = path.with_suffix(".npy")
        np.save(path, cell)
    elif isinstance(cell, np.ndarray):
        path = path.with_suffix(".png")
        Image.fromarray(cell).save(path)
    else:
        return cell
    return path.name


def train(table: Path, config: Config, folder: Path) -> float:
    """Trains a model without report or export; returns its accuracy on test rows."""
    from mmkeras.evaluation.metrics import correct_rows
    from mmkeras.evaluation.predictions import predict_split
    from mmkeras.training.prepare_run import prepare_run
    from mmkeras.training.steps import fit_model

    cache = replace(config.table, cache_dir=str(folder / "cache"))
    folder.mkdir(parents=True)
    with contextlib.redirect_stdout(io.StringIO()):
        run_data = prepare_run(folder, replace(config, table=cache), table)
        trained_model, _ = fit_model(folder, run_data)
        result = predict_split(trained_model, run_data.dataset, "test")
    task = run_data.state.task
    return float(correct_rows(result.targets, result.probabilities, task).mean())


def fit_scikit_learn(train: Rows, test: Rows) -> float:
    """Returns the accuracy of scikit-learn's logistic regression on test rows."""
    pairs = [_features(train.columns[m], test.columns[m]) for m in train.columns]
    x, rows = (np.hstack(blocks) for blocks in zip(*pairs, strict=True))
    model = LogisticRegression(max_iter=5000).fit(x, train.labels)
    return float((model.predict(rows) == np.array(test.labels)).mean())


def _features(train: list, test: list) -> tuple[np.ndarray, np.ndarray]:
    """Returns (N, D) and (n, D) features of a column; zeros for empty cells."""
    cells = [*train, *test]
    if all(isinstance(cell, str) for cell in cells):
        tfidf = TfidfVectorizer().fit(train)
        return tfidf.transform(train).toarray(), tfidf.transform(test).toarray()
    vectors = [_vector(cell) if len(cell) else None for cell in cells]
    width = next(len(x) for x in vectors if x is not None)
    x = np.array([np.zeros(width) if x is None else x for x in vectors])
    scaler = StandardScaler().fit(x[: len(train)])
    return scaler.transform(x[: len(train)]), scaler.transform(x[len(train) :])


def _vector(cell) -> np.ndarray:
    """Returns a vector, the pixels of an image, or the mean spectrum of a sound."""
    if isinstance(cell, np.ndarray):
        return cell.ravel()
    if not cell.startswith(b"RIFF"):
        return np.asarray(Image.open(io.BytesIO(cell)).convert("L")).ravel()
    wave, rate_hz = soundfile.read(io.BytesIO(cell))
    power = np.abs(np.fft.rfft(wave)) ** 2
    hz = np.fft.rfftfreq(len(wave), 1 / rate_hz)
    sums, _ = np.histogram(hz, _BANDS, (0, 4000), weights=power)
    return np.log(sums / len(wave) + 1e-9)


def default_settings(rows: Rows) -> Config:
    """Returns the settings of a user, without those that need a download."""
    return small_concat() if "image" in rows.columns else resnet50_concat()


def measure(name: str, seeds: int) -> list[float]:
    """Returns the accuracy of each of `MODELS`, mean of the seeds."""
    rows = TABLES[name]()
    splits = split_rows(rows)
    parts = [
        rows.take([i for i, split in enumerate(splits) if split == part])
        for part in ("train", "test")
    ]
    accuracies = []
    with tempfile.TemporaryDirectory() as folder:
        table = write_table(Path(folder) / "table", rows, splits)
        for settings in (default_settings(rows), linear()):
            configs = [replace(settings, seed=seed) for seed in range(seeds)]
            folders = [
                Path(folder) / f"{settings.preset}-{seed}" for seed in range(seeds)
            ]
            accuracies.append(mean(map(train, [table] * seeds, configs, folders)))
    return [*accuracies, fit_scikit_learn(*parts)]


def read_arguments(argv: Sequence[str], doc: str, number: str) -> tuple[list[str], int]:
    """Reads --tables and the flag of a number, 3 by default.

    Raises:
        UserError: A table does not exist.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(number, dest="number", type=int, default=3)
    parser.add_argument("--tables", default=",".join(TABLES))
    arguments = parser.parse_args(argv)
    names = arguments.tables.split(",")
    for name in names:
        if name not in TABLES:
            hint = did_you_mean(name, list(TABLES))
            raise UserError(f"There is no table '{name}'.{hint}")
    return names, arguments.number


def main(argv: Sequence[str]) -> None:
    names, seeds = read_arguments(argv, __doc__, "--seeds")
    print(f"| table | {' | '.join(MODELS)} | difference |")
    print("|---|---|---|---|---|")
    differences = []
    for name in names:
        means = measure(name, seeds)
        differences.append(means[0] - max(means[1:]))
        cells = [f"{x:.3f}" for x in means] + [f"{differences[-1]:+.3f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print(f"Mean difference to the better of the two: {mean(differences):+.3f}")


if __name__ == "__main__":
    run_program(main)
