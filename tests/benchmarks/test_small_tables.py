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
