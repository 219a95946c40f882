import json

import pandas as pd
import pytest
import tensorflow_data_validation as tfdv

from mmkeras.config import Config
from mmkeras.modalities.columns import build_columns
from pipeline.components import artifacts, media_statistics
from pipeline.components.media_statistics import (
    Executor,
    count_keys,
    describe_columns,
    summarize,
)
from pipeline.components.statistics_gen import statistics_options
from tests.pipeline import executor_harness
from tests.pipeline.executor_harness import serialized_example

COLUMNS = describe_columns(build_columns(Config()))  # text, image and audio
AUDIO = {"audio": b"RIFF", "audio_rate_hz": 16_000, "audio_channels": 1}
AUDIO |= {"audio_seconds": 2.0, "audio_clipped": 0.0, "audio_silent": 0.25}


def summary_of(*records, described=COLUMNS, labels=None, **columns):
    """The summary of one split, with StatisticsGen's numbers of some columns."""
    counts = {}
    for record in records:
        for key in count_keys(record, "train", described):
            counts[key] = counts.get(key, 0) + 1
    frame = pd.DataFrame(columns or {"id": ["1"]})
    statistics = tfdv.generate_statistics_from_dataframe(frame, statistics_options())
    result = summarize(counts.items(), {"train": statistics}, described, labels)
    return json.loads(json.dumps(result))["splits"]["train"]


def run(examples, folder, beam_args=executor_harness.IN_MEMORY):
    statistics = executor_harness.statistics_of(examples, folder)
    output = executor_harness.artifact(artifacts.MediaStatistics, folder / "media")
    Executor(executor_harness.context(folder, beam_args)).Do(
        {"examples": [examples], "statistics": [statistics]},
        {"media_statistics": [output]},
        {"code": ""},
    )
    path = folder / "media"
    page = (path / "media_statistics.html").read_text(encoding="utf-8")
    return json.loads((path / "media_statistics.json").read_text("utf-8")), page


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Examples of a small table, with their statistics and the page."""
    _, _, examples = executor_harness.small(tmp_path_factory.getbasetemp() / "small")
    return examples, *run(examples, tmp_path_factory.mktemp("media"))


def test_statistics_of_ingested_rows(small):
    _, statistics, page = small
    train = statistics["splits"]["train"]
    assert train["rows"] == 24
    measured = [set(column["measured"]) for column in statistics["columns"].values()]
    assert set(train["numbers"]) == set().union(*measured) and all(measured)
    assert train["columns"]["audio"] == {"present": 23, "absent": 1, "unreadable": 0}
    assert train["numbers"]["image_width_px"]["max"] == 40
    assert train["numbers"]["audio_seconds"]["mean"] == pytest.approx(0.2)
    assert train["numbers"]["audio_seconds"]["rows"] == 23
    assert train["values"]["audio_rate_hz"] == {"16000": 23}
    none = {"rows": 23, "share": 0}
    assert train["faults"] == {"audio_silent": none, "audio_clipped": none}
    assert train["classes"]["number"] == 2
    assert "24 train rows" in page


@pytest.mark.slow
def test_workers_in_other_processes_count_the_same(small, tmp_path):
    examples, statistics, _ = small
    args = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    assert run(examples, tmp_path, args)[0] == statistics


@pytest.mark.parametrize(
    ("features", "states"),
    [
        ({"text": b"hi", "status": b"audio unreadable"}, "present absent unreadable"),
        (
            {"status": b"image unreadable; audio unreadable"},
            "absent unreadable unreadable",
        ),
        ({"image": b"", "audio": b"x"}, "absent absent present"),
    ],
)
def test_a_column_is_present_absent_or_unreadable(features, states):
    summary = summary_of(serialized_example(**features))
    assert list(summary["columns"]) == list(COLUMNS)
    for column, state in zip(summary["columns"].values(), states.split(), strict=True):
        assert column[state] == 1 and sum(column.values()) == 1


def test_zero_is_a_number_and_nan_is_none():
    price = {"feature": "price", "counted": {}, "measured": {}, "faults": {}}
    rows = [serialized_example(price=x) for x in (0.0, 2.5, float("nan"))]
    summary = summary_of(*rows, described={"price": price})
    assert summary["columns"]["price"] == {"present": 2, "absent": 1, "unreadable": 0}


def test_audio_is_silent_throughout_or_clipped_or_neither():
    changes = ({}, {"audio_silent": 1.0}, {"audio_silent": 0.999})
    changes += ({"audio_clipped": 0.0009}, {"audio_clipped": 0.0011})
    rows = [serialized_example(**AUDIO | change) for change in changes]
    fifth = {"rows": 5, "share": 0.2}
    assert summary_of(*rows, serialized_example(text=b"hi"))["faults"] == {
        "audio_silent": fifth,
        "audio_clipped": fifth,
    }


def test_numbers_are_those_of_statistics_gen():
    widths = [*range(1, 101), 1000]
    summary = summary_of(image_width_px=widths, text_characters=[3] * 101)
    assert set(summary["numbers"]) == {"image_width_px", "text_characters"}
    width = summary["numbers"]["image_width_px"]
    assert (width["rows"], width["min"], width["max"]) == (101, 1, 1000)
    assert width["mean"] == pytest.approx(sum(widths) / 101)
    assert width["median"] == pytest.approx(51, abs=1)
    assert width["p05"] == pytest.approx(6, abs=1)
    assert width["p95"] == pytest.approx(96, abs=1)
    edges, rows = width["histogram"]["edges"], width["histogram"]["rows"]
    assert len(edges) == len(rows) + 1 and edges == sorted(edges)
    assert sum(rows) == 101 and rows[0] == 100 and rows[-1] == 1
    length = summary["numbers"]["text_characters"]
    assert length["min"] == length["median"] == length["p95"] == 3
    assert length["deviation"] == 0


def test_a_row_without_anything_has_statistics():
    summary = summary_of(serialized_example(id=b"1"))
    assert summary["rows"] == 1
    assert summary["numbers"] == summary["values"] == summary["faults"] == {}
    assert summary["classes"] == {"number": 0, "largest": []}


def test_labels_of_a_regression_have_a_distribution_where_a_split_has_rows():
    labels = {"train": {"2": 3, "-6": 1}, "test": {}}
    number = summary_of(labels=labels)["numbers"]["label"]
    assert (number["rows"], number["min"], number["max"]) == (4, -6, 2)
    assert (number["mean"], number["median"]) == (0, 2)
    assert number["deviation"] == pytest.approx(12**0.5)
    assert "label" not in summary_of(labels={"train": {}})["numbers"]


def test_classes_are_counted_with_their_missing_columns():
    summary = summary_of(
        serialized_example(label=b"a|b", text=b"hi", status=b"image unreadable"),
        serialized_example(label=b"a", text=b"hi", image=b"x", audio=b"x"),
        serialized_example(label=b"c"),
    )
    assert summary["classes"] == {
        "number": 3,
        "largest": [
            {"name": "a", "rows": 2, "missing": {"text": 0, "image": 1, "audio": 1}},
            {"name": "c", "rows": 1, "missing": {"text": 1, "image": 1, "audio": 1}},
            {"name": "b", "rows": 1, "missing": {"text": 0, "image": 1, "audio": 1}},
        ],
    }


def test_the_largest_of_many_classes_are_listed(monkeypatch):
    monkeypatch.setattr(media_statistics, "MAX_CLASSES", 3)
    rows = [serialized_example(label=b"class %02d" % i) for i in range(20)]
    rows = [row for i, row in enumerate(rows) for _ in range(i)]
    classes = summary_of(*rows)["classes"]
    largest = [(item["name"], item["rows"]) for item in classes["largest"]]
    assert largest == [("class 19", 19), ("class 18", 18), ("class 17", 17)]
    assert classes["number"] == 19


def test_values_are_limited_in_number(monkeypatch):
    monkeypatch.setattr(media_statistics, "MAX_VALUES", 2)
    rates = (8_000, 44_100, 44_100, 48_000, 8_000, 96_000)
    rows = [serialized_example(**AUDIO | {"audio_rate_hz": rate}) for rate in rates]
    counts = summary_of(*rows)["values"]["audio_rate_hz"]
    assert list(counts.items()) == [("8000", 2), ("44100", 2), ("other", 2)]
