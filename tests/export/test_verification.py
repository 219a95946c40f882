import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import tensorflow as tf

from mmkeras.config import Config
from mmkeras.errors import ExportMismatchError, UserError
from mmkeras.export import verification
from mmkeras.export.inference import Predictor
from mmkeras.export.saved_model import export
from mmkeras.export.saved_model_session import load_saved_model
from mmkeras.export.verification import (
    check_ranks,
    compare_output,
    golden_batches,
    read_rows,
    rows_to_examples,
    verify_export,
)
from mmkeras.modalities.columns import build_columns
from tests import table_factory

MODALITIES = ("text", "image", "audio")
COLUMNS = {column.name: column for column in build_columns(Config())}
TEXT_ONLY = {"text": COLUMNS["text"]}
BOTH = {**TEXT_ONLY, "image": COLUMNS["image"]}


def test_golden_batches_are_complete_absent_broken_mixed_and_empty(complete_row):
    rows = [{**complete_row, "audio": b""}, complete_row, complete_row]
    batches = golden_batches(rows, COLUMNS)
    assert list(batches) == [
        "complete",
        *(f"{m} {kind}" for m in MODALITIES for kind in ("absent", "broken")),
        "all absent",
        "mixed",
        "empty",
    ]
    columns = {m: [content] for m, content in complete_row.items()}
    assert batches["image absent"] == {**columns, "image": [b""]}
    broken = batches["audio broken"]
    assert broken["audio"][0] not in (b"", complete_row["audio"])
    assert broken["image"] == columns["image"]
    assert batches["all absent"] == dict.fromkeys(MODALITIES, [b""])
    assert batches["empty"] == dict.fromkeys(MODALITIES, [])
    assert {len(rows) for rows in batches["mixed"].values()} == {3 + 6 + 1}


def test_the_most_complete_rows_come_first_and_are_at_most_four(complete_row):
    silent = {**complete_row, "audio": b""}
    batches = golden_batches([silent] * 5 + [complete_row], COLUMNS)
    assert batches["complete"]["audio"] == [complete_row["audio"], b"", b"", b""]


def test_golden_batches_need_a_row():
    with pytest.raises(ValueError, match="at least one row"):
        golden_batches([], COLUMNS)


def test_broken_golden_rows_are_broken_for_every_modality(trained_model, complete_row):
    batches = golden_batches([complete_row], COLUMNS)
    rows = [batches[f"{m} broken"] for m in MODALITIES]
    result = Predictor(trained_model)({m: [r[m][0] for r in rows] for m in MODALITIES})
    assert list(result["status"]) == [f"{m} unreadable".encode() for m in MODALITIES]


def write_records(path, *records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return path


def test_examples_are_read_back_and_a_missing_modality_is_empty(tmp_path):
    both = rows_to_examples({"text": [b"a", b""], "image": [b"\xff", b"\0"]}, BOTH)
    one = rows_to_examples({"text": [b"c"]}, TEXT_ONLY)
    path = write_records(tmp_path / "rows", *both, *one)
    expected = [
        {"text": b"a", "image": b"\xff"},
        {"text": b"", "image": b"\0"},
        {"text": b"c", "image": b""},
    ]
    assert read_rows(path, BOTH, limit=9) == expected
    assert read_rows(path, BOTH, limit=2) == expected[:2]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "no rows in '.*rows'; give"),
        ([b"no example"], "'.*rows' cannot be read: .*parse"),
        (None, "'.*rows' cannot be read: .*corrupted"),
    ],
)
def test_rows_that_are_missing_or_damaged_are_refused(tmp_path, records, message):
    path = tmp_path / "rows"
    path.write_bytes(b"no records at all")
    if records is not None:
        write_records(path, *records)
    with pytest.raises(UserError, match=message):
        read_rows(path, TEXT_ONLY, 9)


GOOD = {"text": [b"hi", b"ho"]}
BATCHES = {"good": GOOD, "absent": {"text": [b""]}, "complete": GOOD}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A model and its export."""
    base = tmp_path_factory.mktemp("small")
    trained_model = table_factory.text_model(base, "multiclass")
    return trained_model, export(trained_model, [{"text": b"hi"}], base / "export")


@pytest.fixture
def verify(small, monkeypatch):
    """Verifies the export; `replace` takes a call and returns another one."""

    def verify(replace=lambda call: call, path=None, tolerance=1e-5):
        @contextmanager
        def load(path):
            with load_saved_model(path) as call:
                yield replace(call)

        monkeypatch.setattr(verification, "load_saved_model", load)
        return verify_export(path or small[1], small[0], BATCHES, tolerance)

    return verify


def test_the_export_of_a_model_is_verified_and_that_of_another_is_not(small, verify):
    assert 0 <= verify() < 1e-6
    bias = small[0].model.get_layer("head").get_layer("logits").weights[1]
    bias.assign_add([0.001, 0.0, 0.0])
    try:
        message = r"'good', row \d, class '(a|b|c)': probabilities differs"
        with pytest.raises(ExportMismatchError, match=message):
            verify()
        assert 1e-4 < verify(tolerance=0.01) < 1e-3
    finally:
        bias.assign_sub([0.001, 0.0, 0.0])


def test_an_export_that_cannot_be_loaded_or_run_is_refused(small, verify, tmp_path):
    graph = tmp_path / "saved_model.pb"
    graph.write_bytes(b"junk")
    with pytest.raises(ExportMismatchError, match="cannot be loaded: Read less"):
        verify(path=tmp_path)
    shutil.copy(small[1] / "saved_model.pb", graph)  # loads as if without variables
    with pytest.raises(ExportMismatchError, match="'good': Could not find variable"):
        verify(path=tmp_path)


@pytest.mark.parametrize(
    "failing", ["golden batch 'good'", "request of the wrong rank"]
)
def test_an_export_that_fails_in_a_call_is_refused(verify, failing):
    def replace(call):
        def call_or_fail(signature, feeds):
            is_rank_check = feeds.get("text") == b"hi"
            if is_rank_check == ("rank" in failing):
                raise tf.errors.InternalError(None, None, "two\n  lines")
            return call(signature, feeds)

        return call_or_fail

    with pytest.raises(ExportMismatchError, match=f"fails on .*{failing}: two lines"):
        verify(replace)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("label", [b"x", b"a"], r"label of the export is \[b'x', b'a'\], of the model"),
        ("status", [b"ok", b"text absent"], "status .*text absent"),
        ("classes", [[b"b", b"a", b"c"]] * 2, "classes of classify"),
        ("scores", np.zeros([2, 3]), "scores differs"),
    ],
)
def test_an_export_with_another_output_is_refused(verify, key, value, message):
    def replace(call):
        def call_and_change(signature, feeds):
            outputs = call(signature, feeds)
            return outputs | {key: value} if key in outputs else outputs

        return call_and_change

    with pytest.raises(ExportMismatchError, match=message):
        verify(replace)


def test_an_export_that_accepts_a_wrong_rank_is_refused():
    ranks = []

    def call(signature, feeds):
        ranks.append(np.ndim(feeds["text"]))
        if ranks[-1] in refused:
            raise tf.errors.InvalidArgumentError(None, None, "rank")
        return {}

    refused = (0, 2)
    check_ranks(call, GOOD)
    refused = (0,)
    with pytest.raises(ExportMismatchError, match="accepts .*wrong rank"):
        check_ranks(call, GOOD)
    assert ranks == [0, 2, 0, 2]


def compare(output, expected, key="probabilities"):
    arrays = np.array(output), np.array(expected)
    return compare_output("x", key, *arrays, ("a", "b"), 1e-5)


@pytest.mark.parametrize(
    ("output", "expected", "message"),
    [
        ([[0.5, 0.5], [0.5, 0.4]], [[0.5, 0.5]] * 2, "'x', row 1, class 'b': .* 0.1,"),
        ([[np.nan, 0.5]], [[0.5, 0.5]], "differs from the model"),
        ([[0.5]], [[0.5, 0.5]], r"shape \(1, 1\), of the model \(1, 2\)"),
    ],
)
def test_a_difference_of_probabilities_is_refused(output, expected, message):
    with pytest.raises(ExportMismatchError, match=message):
        compare(output, expected)


def test_the_largest_difference_is_returned():
    assert compare([[0.5, 0.5]], [[0.5, 0.500009]]) == pytest.approx(9e-6)
    assert compare(np.empty([0, 2]), np.empty([0, 2])) == 0.0


def test_an_embedding_is_compared_relative_to_its_size():
    compare([[1000.005]], [[1000.0]], "embedding")
    with pytest.raises(ExportMismatchError):
        compare([[0.005]], [[0.0]], "embedding")
