"""Accuracy on tables of numbers: the tabular branch and scikit-learn.

    python -m benchmarks.tabular [--seeds 3] [--tables wine,cancer] [--layers 2]

Five folds per seed. The branch with concat fusion trains on all rows of four folds with
the default settings of training, without early stopping. For `diabetes`, a regression,
the values are R² and the loss is the mean squared error of standardised targets.
"""

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import fields
from statistics import mean

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from sklearn import datasets
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmkeras.cli import run_program
from mmkeras.config import FusionConfig, LossConfig, TrainConfig
from mmkeras.config.schedule import BATCH_ROWS, EPOCHS, STEPS, STEPS_PER_EPOCH
from mmkeras.config.tabular import TabularConfig
from mmkeras.modalities.column import Quantiles
from mmkeras.modalities.tabular.branch import Tabular
from mmkeras.modalities.tabular.numeric import Numeric
from mmkeras.models.fusion import fuse
from mmkeras.models.losses import build_loss
from mmkeras.training.fit import build_optimizer

MODELS = ("mmkeras", "linear", "boosting")
TABLES = {
    "wine": datasets.load_wine,
    "cancer": datasets.load_breast_cancer,
    "digits": datasets.load_digits,
    "diabetes": datasets.load_diabetes,
}


def predict(x, y, test, settings: TabularConfig, fusion: str, seed: int) -> np.ndarray:
    """Trains on (N, D) numbers; returns (n,) classes, or numbers if `y` are floats."""
    keras.utils.set_random_seed(seed)
    columns = [Numeric(f"x{i}", settings) for i in range(x.shape[1])]
    branch = Tabular(columns, settings)
    state = {
        column.name: _fit(column, v) for column, v in zip(columns, x.T, strict=True)
    }
    graph = tf.function(branch.graph(state).finish_batch, reduce_retracing=True)

    def inputs(x):
        values = {c.name: v.astype("f4") for c, v in zip(columns, x.T, strict=True)}
        return {"tabular": graph(values), "present": tf.ones([len(x), 1])}

    targets, weights = _targets(y)
    model = build_model(branch, state, targets.shape[1], fusion, y.dtype.kind == "i")
    _train(model, (inputs(x), targets, weights), seed)
    out = model(inputs(test)).numpy()
    if y.dtype.kind == "f":
        return out[:, 0] * y.std() + y.mean()
    return out.argmax(axis=1) if out.shape[1] > 1 else (out[:, 0] > 0.5).astype(int)


def _fit(column: Numeric, values: np.ndarray) -> dict:
    """Returns the state of a column from (N,) values of the training rows."""
    statistic = column.statistics()
    if isinstance(statistic, Quantiles):
        shares = np.linspace(0, 1, statistic.count)
        return column.fit(np.quantile(values, shares)[:, None])
    return column.fit((values.mean(keepdims=True), values.std(keepdims=True)))


def _targets(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (N, C) targets, C = 1 for two classes and for numbers, and weights."""
    if y.dtype.kind == "f":
        return ((y - y.mean()) / y.std())[:, None], np.ones(len(y))
    counts = np.bincount(y)
    one_hot = np.eye(len(counts))[y]
    weights = len(y) / len(counts) / counts[y]  # balanced
    return one_hot[:, 1:] if len(counts) == 2 else one_hot, weights


def build_model(branch, state, units: int, fusion: str, is_class: bool) -> keras.Model:
    """Builds the branch, fusion and head, compiled without an optimizer."""
    config = FusionConfig(kind=fusion)
    x = keras.Input((branch.width,), name="tabular")
    present = keras.Input((1,), name="present")
    encoded = branch.build_encoder(x, state, config.takes_tokens)
    fused = fuse([encoded], present, config)
    activation = ("sigmoid" if units == 1 else "softmax") if is_class else None
    out = layers.Dense(units, activation, name="out")(fused)
    model = keras.Model({"tabular": x, "present": present}, out)
    task = "binary" if units == 1 else "multiclass"
    smoothing = TrainConfig().label_smoothing
    loss = build_loss(task, smoothing, LossConfig()) if is_class else "mse"
    model.compile(loss=loss)
    return model


def _train(model: keras.Model, rows: tuple, seed: int) -> None:
    """Trains with the default schedule; the weights become their moving average."""
    count, train = len(rows[1]), TrainConfig()
    steps = -(-count // BATCH_ROWS)
    # Of an epoch of the schedule, which has passes over the rows if these are few.
    steps_per_epoch = steps * -(-STEPS_PER_EPOCH // steps)
    total = max(EPOCHS, -(-STEPS // steps_per_epoch))
    epochs = total * steps_per_epoch // steps
    optimizer = build_optimizer(train, train.learning_rate, steps_per_epoch, total)
    model.compile(optimizer, model.loss, steps_per_execution=steps)
    batches = tf.data.Dataset.from_tensor_slices(rows).cache().shuffle(count, seed)
    batches = batches.batch(-(-count // steps)).prefetch(2)
    with warnings.catch_warnings():  # that Keras does not shuffle
        warnings.simplefilter("ignore")
        model.fit(batches, epochs=epochs, verbose=0)


def measure(name: str, settings: TabularConfig, fusion: str, seeds: int) -> list[float]:
    """Returns the mean accuracy, or R², of each of `MODELS`."""
    x, y = TABLES[name](return_X_y=True)
    is_class = name != "diabetes"
    y = y.astype(np.int64 if is_class else np.float64)
    score = accuracy_score if is_class else r2_score
    scores = {model: [] for model in MODELS}
    for seed in range(seeds):
        kind = StratifiedKFold if is_class else KFold
        for train, test in kind(5, shuffle=True, random_state=seed).split(x, y):
            models = _references(is_class, seed)
            outputs = [
                predict(x[train], y[train], x[test], settings, fusion, seed),
                *(m.fit(x[train], y[train]).predict(x[test]) for m in models),
            ]
            for model, out in zip(MODELS, outputs, strict=True):
                scores[model].append(score(y[test], out))
    return [mean(values) for values in scores.values()]


def _references(is_class: bool, seed: int) -> tuple:
    """Returns scikit-learn's linear model of standardised numbers, and boosting."""
    linear = LogisticRegression(max_iter=5000) if is_class else Ridge()
    boosting = (
        HistGradientBoostingClassifier if is_class else HistGradientBoostingRegressor
    )
    return make_pipeline(StandardScaler(), linear), boosting(random_state=seed)


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument("--fusion", default="concat")
    for field in fields(TabularConfig):
        kind = type(field.default)
        parser.add_argument(f"--{field.name}", type=kind, default=field.default)
    arguments = vars(parser.parse_args(argv))
    seeds, tables, fusion = map(arguments.pop, ("seeds", "tables", "fusion"))
    settings = TabularConfig(**arguments)
    print(f"| table | {' | '.join(MODELS)} | difference |")
    print("|---|---|---|---|---|")
    for name in tables.split(","):
        means = measure(name, settings, fusion, seeds)
        cells = [f"{x:.4f}" for x in means] + [f"{means[0] - max(means[1:]):+.4f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    run_program(main)
