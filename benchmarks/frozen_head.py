"""The head of `pretrained-small` and logistic regression, on the same frozen vectors.

    python -m benchmarks.frozen_head SOURCE --text.weights DIR [--tables words4-text]

SOURCE has words/ and digits/. Vectors are outputs of the preset's frozen encoders, and
for voices the log-mel statistics. The training rows of each table are divided into five
folds; both models are tested on each fold in turn. The product takes 15 % of the other
rows for validation. scikit-learn's logistic regression, on standardized vectors with a
strength of regularization by cross-validation, is fitted to the same training rows, and
then to the validation rows too.
"""

import argparse
import contextlib
import csv
import io
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np
from PIL import Image
from sklearn import datasets
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.small_tables import Rows, train, write_table
from mmkeras.cli import run_program
from mmkeras.config import TableConfig, TextConfig
from mmkeras.config.presets import pretrained_small
from mmkeras.schema import TEST, TRAIN, VAL

FOLDS, VAL_SHARE, MAX_ROWS = 5, 0.15, 800
_STRENGTHS = np.logspace(-4, 1, 6)


def _words(source: Path, weights: str, labels: str, *columns: str) -> Rows:
    """Returns training rows of words with vectors of some columns."""
    folder = source / "words"
    with (folder / labels).open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] != TEST]
    cells = {"text": [row["text"] for row in rows]}
    cells["image"] = [(folder / row["image"]).read_bytes() for row in rows]
    return Rows(
        labels=[row["label"] for row in rows],
        columns=encode({name: cells[name] for name in columns}, weights),
    )


def _mnist(source: Path, weights: str) -> Rows:
    """Returns handwritten digits, 28 x 28 pixels."""
    with np.load(source / "digits" / "mnist.npz") as file:
        pixels, labels = file["x_train"][:MAX_ROWS], file["y_train"][:MAX_ROWS]
    images = [_png(image) for image in pixels]
    return Rows(labels=[f"c{y}" for y in labels], columns=encode({"image": images}, ""))


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _voices(source: Path, weights: str, part: int) -> Rows:
    """Returns spoken digits, or with part 1 the names of their speakers."""
    paths = sorted((source / "digits" / "fsdd").glob("*.wav"))
    chosen = np.random.default_rng(0).permutation(len(paths))[:MAX_ROWS]
    names = [paths[i].stem.split("_") for i in chosen]
    audio = [paths[i].read_bytes() for i in chosen]
    return Rows(
        labels=[f"c{name[part]}" for name in names],
        columns=encode({"audio": audio}, ""),
    )


def _numbers(load: Callable) -> Rows:
    """Returns numbers of a data set of scikit-learn."""
    x, y = load(return_X_y=True)
    chosen = np.random.default_rng(0).permutation(len(x))[:MAX_ROWS]
    return Rows(
        labels=[f"c{label}" for label in y[chosen]],
        columns={"vector": list(x[chosen].astype(np.float32))},
    )


_CHAPTERS, _CATEGORIES = "data_chapter.csv", "data.csv"
TABLES: dict[str, Callable[[Path, str], Rows]] = {
    "words4-text": lambda s, w: _words(s, w, _CHAPTERS, "text"),
    "words4-image": lambda s, w: _words(s, w, _CHAPTERS, "image"),
    "words4-both": lambda s, w: _words(s, w, _CHAPTERS, "text", "image"),
    "words21-text": lambda s, w: _words(s, w, _CATEGORIES, "text"),
    "words21-image": lambda s, w: _words(s, w, _CATEGORIES, "image"),
    "words21-both": lambda s, w: _words(s, w, _CATEGORIES, "text", "image"),
    "mnist": _mnist,
    "voices-digit": lambda s, w: _voices(s, w, 0),
    "voices-speaker": lambda s, w: _voices(s, w, 1),
    "digits-64": lambda s, w: _numbers(datasets.load_digits),
}


def encode(cells: dict[str, list], weights: str) -> dict[str, list[np.ndarray]]:
    """Returns the vectors that the preset's encoders give for texts and files."""
    from mmkeras.export.inference import TrainedModel
    from mmkeras.export.two_stage_inference import TwoStagePredictor
    from mmkeras.models.model import build_model
    from mmkeras.training.prepare_run import prepare_run

    config = pretrained_small()
    text = replace(config.text, weights=weights) if weights else TextConfig()
    config = replace(config, text=text)
    rows = len(next(iter(cells.values())))
    labels = [f"c{i % 2}" for i in range(rows)]  # a table needs some
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        table = write_table(
            path / "table", Rows(labels=labels, columns=cells), [TRAIN] * rows
        )
        config = replace(config, table=TableConfig(cache_dir=str(path / "cache")))
        (path / "run").mkdir()
        with contextlib.redirect_stdout(io.StringIO()):
            preprocessor = prepare_run(path / "run", config, table).preprocessor
        model = build_model(preprocessor.config, preprocessor.state)
        predictor = TwoStagePredictor(
            TrainedModel(preprocessor=preprocessor, model=model)
        )
        files = {n: [c.encode() if n == "text" else c for c in cells[n]] for n in cells}
        inputs = predictor.encode(files)
    return {name: list(inputs[name]) for name in cells}


def measure(rows: Rows) -> tuple[float, float, float]:
    """Returns mean accuracies: the product, and the regression on train and on both."""
    x = np.hstack([np.stack(column) for column in rows.columns.values()])
    labels, results = np.array(rows.labels), []
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(labels, labels)
    for fold, (others, test) in enumerate(folds):
        fit_rows, val_rows = train_test_split(
            others, test_size=VAL_SHARE, random_state=fold
        )
        splits = np.full(len(labels), TRAIN)
        splits[val_rows], splits[test] = VAL, TEST
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            table = write_table(path / "table", rows, splits)
            names = ",".join(rows.columns)
            config = replace(pretrained_small(), table=TableConfig(vector=names))
            ours = train(table, config, path / "run")
        theirs = [
            _fit_regression(x[part], labels[part]).score(x[test], labels[test])
            for part in (fit_rows, others)
        ]
        results.append((ours, *theirs))
    return tuple(map(mean, zip(*results, strict=True)))


def _fit_regression(x, labels):
    """Fits scikit-learn's logistic regression; the components make it fast."""
    folds = StratifiedKFold(3, shuffle=True, random_state=1)
    regression = LogisticRegressionCV(Cs=_STRENGTHS, cv=folds, max_iter=300, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes of one row
        return make_pipeline(StandardScaler(), PCA(), regression).fit(x, labels)


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("--text.weights", dest="weights", required=True)
    parser.add_argument("--tables", default=",".join(TABLES))
    arguments = parser.parse_args(argv)
    print("| table | rows | product | regression, same rows | with val rows |")
    print("|---|---|---|---|---|")
    means = []
    for name in arguments.tables.split(","):
        rows = TABLES[name](arguments.source, arguments.weights)
        means.append(measure(rows))
        cells = [f"{x:.3f}" for x in means[-1]]
        print(f"| {name} | {len(rows.labels)} | {' | '.join(cells)} |", flush=True)
    ours, *theirs = map(mean, zip(*means, strict=True))
    cells = [f"{ours:.3f}", *(f"{x:.3f} ({ours - x:+.3f})" for x in theirs)]
    print(f"| mean | | {' | '.join(cells)} |")


if __name__ == "__main__":
    run_program(main)
