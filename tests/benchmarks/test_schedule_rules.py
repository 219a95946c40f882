import csv

import pytest

from benchmarks import schedule_rules
from benchmarks.schedule_rules import RULES, cross_validate, with_rule
from benchmarks.small_tables import Rows, split_rows
from mmkeras.config import Config
from mmkeras.config.schedule import BATCH_ROWS, STEPS, with_schedule


@pytest.mark.parametrize("rows", [10, 100, 700])
def test_the_rule_of_mmkeras_is_compared(rows):
    assert (BATCH_ROWS, STEPS) in RULES
    config = with_rule(Config(), rows, (BATCH_ROWS, STEPS))
    assert config == with_schedule(Config(), rows)
    assert config != with_rule(Config(), rows, None)


def test_each_row_but_test_rows_is_held_out_once(monkeypatch):
    labels = ["a", "b"] * 15
    rows = Rows(labels=labels, columns={"text": [f"w{i}" for i in range(30)]})
    held_out = []

    def train(table, config, folder):
        with table.open(newline="") as file:
            tested = [r["text"] for r in csv.DictReader(file) if r["split"] == "test"]
        held_out.extend(tested)
        return len(tested) / 10

    monkeypatch.setattr(schedule_rules, "train", train)
    result = cross_validate(rows, RULES[:1], 3)
    splits = split_rows(rows)
    assert result == pytest.approx([2 / 3])
    assert sorted(held_out) == sorted(
        f"w{i}" for i in range(30) if splits[i] == "train"
    )
