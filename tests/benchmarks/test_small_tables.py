import csv

import numpy as np
import pytest

from benchmarks import small_tables
from benchmarks.small_tables import Rows, fit_scikit_learn, split_rows, write_table
from mmkeras.errors import UserError


@pytest.fixture
def rows():
    """Thirty rows of two classes; vectors, images and texts tell them apart."""
    labels = ["a", "b"] * 15
    numbers = [float(label == "b") for label in labels]
    columns = {
        "audio": [np.float32([x, 1]) for x in numbers],
        "image": [np.full((4, 4), 200 * x, np.uint8) for x in numbers],
        "text": [f"word {label}{label}" for label in labels],
    }
    columns["audio"][3] = ""
    return Rows(labels=labels, columns=columns)


def test_a_third_of_each_class_is_for_test_and_always_the_same(rows):
    splits = split_rows(rows)
    tested = [
        label for label, s in zip(rows.labels, splits, strict=True) if s == "test"
    ]
    assert sorted(tested) == ["a"] * 5 + ["b"] * 5 and split_rows(rows) == splits


def test_the_table_has_a_file_per_vector_and_image(rows, tmp_path):
    table = write_table(tmp_path / "table", rows, split_rows(rows))
    with table.open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert [row["label"] for row in cells] == rows.labels
    assert [row["text"] for row in cells] == rows.columns["text"]
    assert cells[3]["audio"] == "" and np.load(table.parent / cells[5]["audio"])[0] == 1
    assert (table.parent / cells[5]["image"]).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("names", ["audio", "image", "text", "audio,image,text"])
def test_scikit_learn_tells_the_classes_apart_by_each_column(names, rows):
    columns = {name: rows.columns[name] for name in names.split(",")}
    rows = Rows(labels=rows.labels, columns=columns)
    assert fit_scikit_learn(rows.take(range(4, 20)), rows.take(range(20, 30))) == 1


def test_an_unknown_table_is_refused():
    with pytest.raises(UserError, match="no table 'irs'. Did you mean 'iris'?"):
        small_tables.main(["--tables", "wine,irs"])


def test_the_difference_is_that_of_the_default_to_the_better(monkeypatch, capsys):
    means = {"iris": [0.9, 0.8, 0.95], "wine": [0.9, 0.8, 0.7]}
    monkeypatch.setattr(small_tables, "measure", lambda name, seeds: means[name])
    small_tables.main(["--tables", "iris,wine"])
    _, _, *lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "| iris | 0.900 | 0.800 | 0.950 | -0.050 |",
        "| wine | 0.900 | 0.800 | 0.700 | +0.100 |",
        "Mean difference to the better of the two: +0.025",
    ]


def test_each_model_has_the_mean_accuracy_of_its_seeds(rows, monkeypatch):
    seen = []

    def train(table, config, folder):
        seen.append((config.preset, config.seed, table.exists()))
        return 0.5 + config.seed / 10

    monkeypatch.setattr(small_tables, "train", train)
    monkeypatch.setitem(small_tables.TABLES, "iris", lambda: rows)
    assert small_tables.measure("iris", 2) == [0.55, 0.55, 1.0]
    presets = ["small-concat"] * 2 + ["linear"] * 2
    assert seen == list(zip(presets, [0, 1] * 2, [True] * 4, strict=True))
