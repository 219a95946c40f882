from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mmkeras.config import TableConfig
from mmkeras.console import output
from mmkeras.data.tables import open_table
from mmkeras.errors import UserError
from mmkeras.estimators.labels import LabelForm
from mmkeras.estimators.training_table import (
    open_in_memory,
    with_labels,
    with_validation,
)
from mmkeras.training.prepare_run import prepare_run
from mmkeras.training.run_folder import opened_run
from tests import table_factory

ROWS = {"text": ["a", "b", "c"]}


def training_table(table, labels, validation, config):
    table = open_in_memory(table)
    if labels is not None:
        table = with_labels(table, labels, config)
    return with_validation(table, validation, LabelForm(), config)


def read(table):
    return [record for _, record in open_table(table).records()]


def test_a_table_alone_is_not_changed():
    assert training_table("rows.csv", None, None, TableConfig()) == "rows.csv"


def test_labels_become_the_label_column_also_of_a_file(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text\na\nb\n")
    config = TableConfig(label="target")
    table = training_table(path, pd.Series([1, 2], index=[7, 8]), None, config)
    assert read(table) == [
        {"text": "a", "target": "1"},
        {"text": "b", "target": "2"},
    ]
    assert table.folder == str(tmp_path)
    assert [r for _, r in table.records(["target"])] == [{"target": x} for x in "12"]
    other = training_table(path, [1, 3], None, config)
    assert table.fingerprint() != other.fingerprint()


def test_labels_replace_those_of_a_file(tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\na,True\nb,False\n")
    table = with_labels(tmp_path / "rows.csv", [True, False], TableConfig())
    assert [row["label"] for row in read(table)] == ["true", "false"]


def test_labels_that_a_table_in_memory_has_as_well_are_the_same():
    table = {**ROWS, "label": ["1", "2", "3"]}
    assert read(with_labels(table, [1, 2, 3], TableConfig())) == read(table)


def test_validation_rows_get_their_split_and_lines_of_their_own():
    rows = {**ROWS, "split": ["", "test", "train"], "label": ["x", "y", "x"]}
    validation = {"text": ["d", "e"], "extra": [1, 2]}
    table = training_table(rows, None, (validation, ["x", "y"]), TableConfig())
    records = list(table.records(["text", "split", "label"]))
    assert [record["split"] for _, record in records] == [
        *["train", "test", "train"],
        *["val", "val"],
    ]
    assert [record["label"] for _, record in records] == list("xyxxy")
    assert len({line for line, _ in records}) == 5
    assert read(table)[4]["extra"] == "2"
    rows = [{"text": text, "label": "x"} for text in "de"]
    assert read(training_table(ROWS, list("xyz"), rows, TableConfig()))[3:] == [
        {**row, "split": "val"} for row in rows
    ]


@pytest.mark.parametrize(
    ("labels", "validation", "message"),
    [
        (["x"], None, "3 rows, and there are 1 labels"),
        (list("xxxx"), None, "3 rows, and there are 4 labels"),
        ([object()] * 3, None, "A label is of type object"),
        (None, (ROWS, ["x"]), "3 rows, and there are 1 labels"),
        (
            None,
            ({**ROWS, "label": [1, 2, 3]}, [1, 2, 4]),
            "a column 'label' with other",
        ),
        (None, (ROWS,), "a tuple of 1. Give a pair"),
        (None, (ROWS, ["x"], ["y"]), "a tuple of 3. Give a pair"),
        (None, [ROWS, ["x"]], "3 rows, and there are 1 labels"),
        (list("xyz"), ROWS, "no label column 'label'. Give it, or a pair"),
        (None, "other/rows.csv", "in 'other', and the training rows in '.'"),
    ],
)
def test_labels_and_tables_that_do_not_fit_are_refused(
    labels, validation, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "rows.csv").write_text("text,label\nd,x\n")
    with pytest.raises(UserError, match=message):
        training_table(ROWS, labels, validation, TableConfig())


class Pixels:
    """An image that counts how often it is converted."""

    def __init__(self, level):
        self.level, self.reads = level, 0

    def __array__(self, dtype=None, copy=None):
        self.reads += 1
        return np.full((32, 32), self.level, np.uint8)


@pytest.mark.parametrize("has_labels", [False, True])
def test_a_fit_converts_each_cell_of_a_table_in_memory_three_times(
    has_labels, tmp_path
):
    """For the name of the rows, for the roles of the columns, and for the shards."""
    cells, labels = [Pixels(5 * i) for i in range(40)], ["a", "b"] * 20
    table = {"photo": cells} | ({} if has_labels else {"label": labels})
    columns = {"photo": {"type": "image"}}
    config = replace(table_factory.tiny_config(tmp_path / "cache"), columns=columns)
    table = training_table(table, labels if has_labels else None, None, config.table)
    folder = tmp_path / "run"
    with opened_run(folder, config, table), output(verbose=False):
        assert prepare_run(folder, config, table).dataset.rows["train"] == 28
    assert {cell.reads for cell in cells} == {3}
