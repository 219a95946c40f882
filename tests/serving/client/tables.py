"""Comparison of tables of predictions."""

import csv
import io

import pytest


def assert_equal_predictions(text: str, expected: str) -> None:
    """Compares two CSVs; probabilities may differ in the last digit."""
    rows, expected_rows = (
        list(csv.reader(io.StringIO(content))) for content in (text, expected)
    )
    assert rows[0] == expected_rows[0] and len(rows) == len(expected_rows)
    for row, other in zip(rows[1:], expected_rows[1:], strict=True):
        assert row[:3] == other[:3] and row[4] == other[4]
        numbers = [float(x) for x in (row[3], *row[5:])]
        assert numbers == pytest.approx(
            [float(x) for x in (other[3], *other[5:])], abs=2e-6
        )
