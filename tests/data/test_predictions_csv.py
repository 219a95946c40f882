import math

import pytest

from mmkeras.data.predictions_csv import (
    merge_status,
    prediction_row,
    predictions_header,
    unreadable_status,
)


@pytest.mark.parametrize(
    "status, unreadable, problem, expected",
    [
        ("ok", "", "", "ok"),
        ("image absent", "image unreadable", "", "image unreadable"),
        ("a absent; b absent", "b unreadable", "", "a absent; b unreadable"),
        ("ok", "", "no id", "ok; row unreadable: no id"),
    ],
)
def test_unreadable_media_are_not_called_absent(status, unreadable, problem, expected):
    assert merge_status(status, unreadable, problem) == expected


def test_unreadable_modalities_are_separated_as_in_the_served_status():
    assert unreadable_status(["text", "image"]) == "text unreadable; image unreadable"
    assert unreadable_status([]) == ""


def test_a_row_has_six_digits_and_one_cell_per_column():
    row = prediction_row("r1", "a", "b", 0.75, "ok", [0.25, 0.75])
    assert row == ["r1", "a", "b", "0.750000", "ok", "0.250000", "0.750000"]
    assert len(row) == len(predictions_header(["a", "b"]))


def test_a_row_without_prediction_has_empty_cells():
    row = prediction_row("r1", "", "", math.nan, "row unreadable: no id", [math.nan])
    assert row == ["r1", "", "", "", "row unreadable: no id", ""]


def test_the_status_of_a_column_whose_name_ends_another_is_its_own():
    status = merge_status("second image absent; image absent", "image unreadable")
    assert status == "second image absent; image unreadable"
