"""Answers as the lines of a file."""

import csv
import io
import json
import math
from dataclasses import replace

import pytest

from mmkeras.data.table import Row
from serving.client.errors import PredictError
from serving.client.output_writer import CSV, JSON_LINES, OutputWriter
from serving.client.prediction import Prediction, not_sent

ANSWER = Prediction(
    label="a,b",
    score=2 / 3,
    probabilities={"a,b": 2 / 3, "c": 1 / 3},
    status="image unreadable",
    version=3,
    problems=("image 'x': file not found",),
)


def row(identifier="r1", labels=("c",), problem=""):
    return Row(line=2, id=identifier, cells={}, labels=labels, problem=problem)


def written(form, *pairs, classes=("a,b", "c")):
    file = io.StringIO(newline="")
    writer = OutputWriter(file, form, classes, "t")
    for one, answer in pairs:
        writer(one, answer)
    return file.getvalue()


def test_csv_is_as_mmkeras_predict_writes_it():
    text = written(CSV, (row(), ANSWER), (row("r2", ()), not_sent("9 MB")))
    assert text == (
        'id,label,predicted,score,status,"a,b",c\r\n'
        'r1,c,"a,b",0.666667,image unreadable,0.666667,0.333333\r\n'
        "r2,,,,row unreadable: 9 MB,,\r\n"
    )
    assert len(list(csv.reader(io.StringIO(text)))) == 3


def test_json_lines_hold_the_problems_too():
    text = written(JSON_LINES, (row(), ANSWER), (row("r2", ()), not_sent("9 MB")))
    first, second = map(json.loads, text.splitlines())
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


def test_json_has_null_where_there_is_no_number():
    nothing = replace(ANSWER, score=math.nan, probabilities={"a": math.nan, "b": 1.0})
    found = json.loads(
        written(JSON_LINES, (row(), nothing)), parse_constant=pytest.fail
    )
    assert found["score"] is None and found["probabilities"] == {"a": None, "b": 1.0}


def test_what_is_wrong_in_the_row_itself_is_in_its_status():
    for form in (CSV, JSON_LINES):
        text = written(form, (row(problem="2 cells"), ANSWER))
        assert "image unreadable; row unreadable: 2 cells" in text


def test_columns_are_those_of_the_first_answer_where_no_classes_are_known():
    text = written(CSV, (row(), ANSWER), classes=())
    assert text.startswith('id,label,predicted,score,status,"a,b",c\r\n')


def test_other_classes_in_the_middle_are_an_error_and_never_a_wrong_column():
    file = io.StringIO(newline="")
    writer = OutputWriter(file, CSV, ("a,b", "c"), "localhost:8500")
    writer(row(), ANSWER)
    before = file.getvalue()
    changed = Prediction(
        label="c", score=0.6, probabilities={"c": 0.6, "a,b": 0.4}, status="ok"
    )
    with pytest.raises(PredictError, match="localhost:8500 has another model now"):
        writer(row(), changed)
    assert file.getvalue() == before
    assert len(written(JSON_LINES, (row(), ANSWER), (row(), changed)).splitlines()) == 2
