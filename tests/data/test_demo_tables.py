from pathlib import Path

import pytest

from mmkeras.data import demo_dataset, scene_dataset
from mmkeras.data.demo_tables import demo_note, table_or_demo
from tests.program_harness import read_csv


@pytest.fixture
def small_sets(tmp_path, monkeypatch):
    """Data sets of few rows in the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for source in (demo_dataset, scene_dataset):
        make = source.make_dataset
        few = lambda folder, make=make: make(folder, rows=30)  # noqa: E731
        monkeypatch.setattr(source, "make_dataset", few)
    return tmp_path / "mmkeras"


def test_a_table_that_is_given_is_returned():
    table = Path("rows.csv")
    assert table_or_demo(table) is table
    assert table_or_demo(table, "generate") is table


@pytest.mark.parametrize("task", [(), ("auto",), ("multiclass",)])
def test_without_a_table_it_is_the_demo_data_set(small_sets, task):
    table = table_or_demo(None, *task)
    assert table == small_sets / f"embedded-{demo_dataset.VERSION}" / "data.csv"
    assert tuple(read_csv(table)[0]) == demo_dataset.COLUMNS
    assert len(list(small_sets.iterdir())) == 1


def test_without_a_table_it_is_the_captions_in_generation(small_sets):
    table = table_or_demo(None, "generate")
    assert table == small_sets / f"scenes-{scene_dataset.VERSION}" / "data.csv"
    assert tuple(read_csv(table)[0]) == scene_dataset.COLUMNS
    assert len(list(small_sets.iterdir())) == 1


def test_the_note_names_the_data_the_preset_and_the_flags():
    note = demo_note("gated")
    assert note.startswith("Data: the demo data set; preset gated. --data FILE.csv")
    assert "captions" in demo_note("gated", "generate")
