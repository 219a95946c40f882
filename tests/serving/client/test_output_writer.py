"""Predictions as CSV and as JSON lines."""

import csv
import io
import json
import math
from dataclasses import replace

import pytest

from mmkeras.data.table import Row
from serving.client.errors import PredictError
from serving.client.output_writer import CSV, JSON_LINES, OutputWriter
from serving.client.prediction import Prediction, rejected_prediction

PREDICTION = Prediction(
    label="a,b",
    score=2 / 3,
    probabilities={"a,b": 2 / 3, "c": 1 / 3},
    status="image unreadable",
    version=3,
    problems=("image 'x': file not found",),
)
HEADER = 'id,label,predicted,score,status,"a,b",c\r\n'


def row(row_id="r1", labels=("c",), problem=""):
    return Row(line=2, id=row_id, cells={}, labels=labels, problem=problem)


PAIRS = [(row(), PREDICTION), (row("r2", ()), rejected_prediction("9 MB"))]


def write(file_format, *pairs, classes=("a,b", "c")):
    file = io.StringIO(newline="")
    writer = OutputWriter(file, file_format, classes, "t")
    for table_row, prediction in pairs:
        writer.write(table_row, prediction)
    return file.getvalue()


def test_csv_has_the_columns_of_mmkeras_predict():
    text = write(CSV, *PAIRS)
    assert text == (
        HEADER + 'r1,c,"a,b",0.666667,image unreadable,0.666667,0.333333\r\n'
        "r2,,,,row unreadable: 9 MB,,\r\n"
    )
    assert len(list(csv.reader(io.StringIO(text)))) == 3


def test_json_lines_have_the_problems_too():
    first, second = map(json.loads, write(JSON_LINES, *PAIRS).splitlines())
    assert first == {
        "id": "r1",
        "label": "c",
        "predicted": "a,b",
        "score": 0.666667,
        "status": "image unreadable",
        "probabilities": {"a,b": 0.666667, "c": 0.333333},
        "version": 3,
        "problems": ["image 'x': file not found"],
    }
    assert second["score"] is None and second["probabilities"] == {}


def test_nan_is_null_in_json():
    nan = replace(PREDICTION, score=math.nan, probabilities={"a": math.nan, "b": 1.0})
    line = write(JSON_LINES, (row(), nan))
    fields = json.loads(line, parse_constant=pytest.fail)
    assert fields["score"] is None and fields["probabilities"] == {"a": None, "b": 1.0}


@pytest.mark.parametrize("file_format", [CSV, JSON_LINES])
def test_the_status_has_the_problem_of_the_row(file_format):
    text = write(file_format, (row(problem="2 cells"), PREDICTION))
    assert "image unreadable; row unreadable: 2 cells" in text


def test_without_known_classes_the_first_prediction_gives_the_columns():
    assert write(CSV, (row(), PREDICTION), classes=()).startswith(HEADER)


def test_other_classes_than_the_columns_are_an_error():
    file = io.StringIO(newline="")
    writer = OutputWriter(file, CSV, ("a,b", "c"), "localhost:8500")
    writer.write(row(), PREDICTION)
    before = file.getvalue()
    changed = replace(PREDICTION, probabilities={"c": 0.6, "a,b": 0.4})
    with pytest.raises(PredictError, match="localhost:8500 .*--version"):
        writer.write(row(), changed)
    assert file.getvalue() == before
    lines = write(JSON_LINES, (row(), PREDICTION), (row(), changed)).splitlines()
    assert len(lines) == 2


def test_the_texts_of_a_generator_have_no_columns_of_classes():
    generated = replace(
        PREDICTION,
        label="a cat",
        text="a cat",
        probabilities={},
        score=-0.25,
        n_best=("a cat", "cat"),
        n_best_score=(-0.25, math.nan),
    )
    text = write(CSV, (row(), generated), classes=())
    header = "id,label,predicted,score,status\r\n"
    assert text == f"{header}r1,c,a cat,-0.250000,image unreadable\r\n"
    fields = json.loads(write(JSON_LINES, (row(), generated), classes=()))
    assert fields["predicted"] == fields["text"] == "a cat"
    assert fields["n_best"] == ["a cat", "cat"]
    assert fields["n_best_score"] == [-0.25, None]
    one = replace(generated, n_best=(), n_best_score=())
    assert "n_best" not in write(JSON_LINES, (row(), one))
