from dataclasses import asdict, replace

import numpy as np
import pytest

from mmkeras.data.dataset import with_columns
from mmkeras.data.fit_preprocessing import fit_preprocessing
from mmkeras.data.ingest import ingest
from tests import table_factory
from tests.pipeline import executor_harness


def multilabel():
    rows = table_factory.make_rows(classes=("red", "green", "blue"))
    for i, row in enumerate(rows):
        row["audio"] = table_factory.vector([i, -i, 3])
    rows[3]["audio"], rows[4]["text"] = "", ""
    for row in rows[::3]:
        row["label"] += "|bright"
    rows[-1]["label"] = "only in test"
    return rows


def vectors():
    rng = np.random.default_rng(0)
    rows = table_factory.make_rows()
    for i, row in enumerate(rows):
        row["text"] = table_factory.vector(rng.normal(size=5))
        row["audio"] = table_factory.vector(rng.normal(3, 9, size=7)) if i % 5 else ""
        row["label"] = str(i % 11)  # sorted as numbers
    return rows


def sparse():
    rows = table_factory.make_rows()
    for row in rows:
        row["audio"] = ""
        row["text"] = row["text"] if row["split"] == "test" else ""
    return rows


CHARS = {"tokens": "char"}
PIECES = {"tokens": "wordpiece", "encoder": "bert", "vocab_size": 300}


def check_state(state, table, config):
    """Compares a state of TFT with that of the train program."""
    dataset = ingest(table, config)
    expected = asdict(fit_preprocessing(dataset, with_columns(config, dataset)))
    state = asdict(state)
    for name, column in expected["columns"].items():
        for key in column.keys() & {"mean", "deviation"}:
            # float32, as in the graph; the last bit may be rounded differently
            numbers = state["columns"][name].pop(key)
            np.testing.assert_allclose(numbers, column.pop(key), 2e-7)
    assert state == expected


def test_tft_finds_words_classes_and_scales(tmp_path_factory):
    base = tmp_path_factory.getbasetemp() / "small"
    table, config, _ = executor_harness.small(base)
    _, state = executor_harness.small_transformed(base)
    check_state(state, table, config)


@pytest.mark.parametrize(
    ("make_rows", "text"),
    [
        (multilabel, PIECES),
        pytest.param(vectors, CHARS, marks=pytest.mark.slow),
        pytest.param(sparse, CHARS, marks=pytest.mark.slow),
    ],
)
def test_tft_finds_the_state_of_other_tables(make_rows, text, tmp_path):
    table = table_factory.write_table(tmp_path / "data" / "data.csv", make_rows())
    config = table_factory.tiny_config(tmp_path / "cache")
    config = replace(config, text=replace(config.text, **text))
    examples, _ = executor_harness.examples_of(table, config, tmp_path)
    _, state = executor_harness.transformed(examples, config, tmp_path)
    check_state(state, table, config)


def test_tft_finds_the_quantiles_of_numbers(tmp_path):
    prices = [f"{i % 7}.{i}" if i % 4 else "" for i in range(40)]
    days = [f"2024-05-{1 + i % 9:02d}" if i % 3 else "" for i in range(40)]
    rows = table_factory.texts(price=prices, day=days)
    table = table_factory.write_table(tmp_path / "data" / "data.csv", rows)
    config = table_factory.tiny_config(
        tmp_path / "cache",
        tabular={"scale": "quantile"},
        table={"numeric": "price", "date": "day", "text": "text"},
    )
    examples, _ = executor_harness.examples_of(table, config, tmp_path)
    _, state = executor_harness.transformed(examples, config, tmp_path)
    check_state(state, table, config)
    lowest = state.columns["price"]["quantiles"][0]
    assert lowest == [pytest.approx(min(float(p) for p in prices[:24] if p))]
