import json
import pickle
import re

import pytest
import tensorflow as tf
from tfx import types
from tfx.types import artifact_utils, standard_artifacts

from pipeline.components import artifacts, media_statistics
from pipeline.components.media_statistics import Executor, MediaStatistics
from pipeline.components.media_statistics_accumulator import (
    NUMBERS,
    MediaTotals,
    read_row,
    summarize,
)
from tests.pipeline import executor_harness
from tests.pipeline.components.test_media_statistics_accumulator import (
    SOUND,
    record,
    rounded,
)

MODALITIES = ["text", "image", "audio"]
PICTURE = {"image": b"x" * 999, "image_width_px": 300, "image_height_px": 200}


def rows_of(split):
    """Rows whose facts differ a little; the fourth has no sound, a fifth no text."""
    step = len(split)
    for i in range(40 * step):
        features = {"label": b"ab"[i % 2 :][:1], "split": split.encode()}
        features |= PICTURE | {"image_channels": 3 + i % 2}
        if i % 4:
            features |= SOUND | {"audio_seconds": float(i + step)}
        elif i % 8:
            features["status"] = b"audio unreadable"
        if i % 5:
            features |= {"text": b"hi", "text_characters": 2 + i % 7}
        yield record(**features)


def examples_in(folder, splits=("train", "val"), shards=3, rows=rows_of):
    examples = executor_harness.artifact(
        standard_artifacts.Examples, folder / "examples"
    )
    examples.split_names = artifact_utils.encode_split_names(list(splits))
    for split in splits:
        path = folder / "examples" / f"Split-{split}"
        path.mkdir()
        for shard in range(shards):
            with tf.io.TFRecordWriter(str(path / f"data-{shard}.tfrecord")) as file:
                for one in list(rows(split))[shard::shards]:
                    file.write(one)
    (folder / "examples" / "ingested.json").write_text(
        json.dumps({"modalities": MODALITIES})
    )
    return examples


def run(examples, folder, beam_args=executor_harness.IN_MEMORY):
    output = executor_harness.artifact(artifacts.MediaStatistics, folder / "statistics")
    Executor(executor_harness.context(folder, beam_args)).Do(
        {"examples": [examples]}, {"media_statistics": [output]}, {"code": ""}
    )
    path = folder / "statistics"
    page = (path / "media_statistics.html").read_text(encoding="utf-8")
    return json.loads((path / "media_statistics.json").read_text("utf-8")), page


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    return run(examples_in(folder), folder)


def test_beam_finds_what_one_loop_over_the_rows_finds(done):
    totals = {split: MediaTotals() for split in ("train", "val")}
    for split, sums in totals.items():
        for one in rows_of(split):
            sums.add(read_row(one, MODALITIES))
    largest = {"train": [("b", (100, 20, 0, 0)), ("a", (100, 20, 0, 50))]}
    largest["val"] = [("b", (60, 12, 0, 0)), ("a", (60, 12, 0, 30))]
    classes = {split: (2, two) for split, two in largest.items()}
    expected = summarize(totals, classes, MODALITIES)
    assert rounded(done[0]) == rounded(json.loads(json.dumps(expected)))


def test_what_workers_have_summed_up_is_merged():
    combine = media_statistics.CombineTotals()
    rows = [read_row(one, MODALITIES) for one in rows_of("val")]
    parts = [combine.create_accumulator() for _ in range(3)]
    for i, row in enumerate(rows):
        parts[i % 3] = combine.add_input(parts[i % 3], row)
    whole = combine.extract_output(combine.merge_accumulators(iter(parts)))
    assert whole.rows == len(rows) and whole.states["image", "present"] == len(rows)


def test_classes_are_counted_with_what_they_lack(tmp_path):
    def rows(split):
        yield record(label=b"a|b", text=b"hi", status=b"image unreadable")
        yield record(label=b"a", text=b"hi", image=b"x", audio=b"x")
        yield record(label=b"c")

    statistics, _ = run(examples_in(tmp_path, ["test"], 1, rows), tmp_path)

    assert statistics["splits"]["test"]["classes"] == {
        "number": 3,
        "largest": [
            {"name": "a", "rows": 2, "missing": {"text": 0, "image": 1, "audio": 1}},
            {"name": "c", "rows": 1, "missing": {"text": 1, "image": 1, "audio": 1}},
            {"name": "b", "rows": 1, "missing": {"text": 0, "image": 1, "audio": 1}},
        ],
    }


def test_of_many_classes_the_largest_are_kept(tmp_path, monkeypatch):
    def rows(split):
        for i in range(20):
            for _ in range(i):
                yield record(label=b"class %02d" % i, text=b"hi")

    monkeypatch.setattr(media_statistics, "MAX_CLASSES", 3)
    statistics, page = run(examples_in(tmp_path, ["train"], 2, rows), tmp_path)

    classes = statistics["splits"]["train"]["classes"]
    names = [(one["name"], one["rows"]) for one in classes["largest"]]
    assert names == [("class 19", 19), ("class 18", 18), ("class 17", 17)]
    assert classes["number"] == 19
    assert re.search(r"Of\s+19 classes in train the 3 largest are shown", page)


def test_a_split_without_classes_or_media_has_statistics(tmp_path):
    statistics, page = run(
        examples_in(tmp_path, ["train"], 1, lambda split: [record(id=b"1")]), tmp_path
    )
    found = statistics["splits"]["train"]
    assert found["rows"] == 1 and found["numbers"] == {}
    assert found["classes"] == {"number": 0, "largest": []}
    assert "1 train rows" in page


def test_facts_that_ingest_measures_are_those_that_are_summed_up(tmp_path_factory):
    _, _, examples = executor_harness.small(tmp_path_factory.getbasetemp() / "small")
    statistics, _ = run(examples, tmp_path_factory.mktemp("real"))
    train = statistics["splits"]["train"]
    assert set(train["numbers"]) == set(NUMBERS)
    assert train["modalities"]["audio"] == {"present": 23, "absent": 1, "unreadable": 0}
    assert train["numbers"]["image_width_px"]["max"] == 40
    assert train["numbers"]["audio_seconds"]["mean"] == pytest.approx(0.2)
    assert train["values"]["audio_rate_hz"] == {"16000": 23}
    assert train["sounds"]["silent_share"] == 0


def test_media_are_left_behind_when_rows_are_read():
    picture = b"picture" * 99
    row = media_statistics._keyed_facts(record(image=picture), "train", MODALITIES)
    assert row[1].states["image"] == "present" and len(pickle.dumps(row)) < 500


@pytest.mark.e2e
def test_workers_in_other_processes_find_the_same(tmp_path, done):
    args = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    statistics, _ = run(examples_in(tmp_path), tmp_path, args)
    assert rounded(statistics) == rounded(done[0])


def test_the_component_takes_examples_and_code():
    examples = types.Channel(type=standard_artifacts.Examples)
    component = MediaStatistics(examples=examples, code="1")
    assert component.outputs["media_statistics"].type is artifacts.MediaStatistics
    assert component.exec_properties == {"code": "1"}
