import shutil
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from mmkeras.errors import ExportMismatchError, UserError
from mmkeras.export import verification
from mmkeras.export.inference import Predictor, load_trained
from mmkeras.export.saved_model import export
from mmkeras.export.saved_model_session import loaded
from mmkeras.export.verification import (
    golden_batches,
    read_rows,
    rows_to_examples,
    verify_export,
)
from tests import table_factory

MODALITIES = ("text", "image", "audio")
FULL = {
    "text": b"warm fire",
    "image": table_factory.image(),
    "audio": table_factory.tone(),
}
ROWS = [{**FULL, "audio": b""}, FULL, {**FULL, "text": b"fresh grass"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return table_factory.trained_run(tmp_path_factory)[0]


@pytest.fixture(scope="module")
def trained_model(folder):
    return load_trained(folder)


@pytest.fixture(scope="module")
def predictor(trained_model):
    return Predictor(trained_model)


# Golden rows ------------------------------------------------------------------


def test_golden_batches_are_complete_absent_broken_mixed_and_empty():
    batches = golden_batches(ROWS, MODALITIES)
    assert list(batches) == [
        "complete",
        *(f"{m} {what}" for m in MODALITIES for what in ("absent", "broken")),
        "all absent",
        "mixed",
        "empty",
    ]
    assert batches["image absent"] == {m: [FULL[m]] for m in MODALITIES} | {
        "image": [b""]
    }
    broken = batches["audio broken"]
    assert broken["audio"][0] not in (b"", FULL["audio"])
    assert broken["image"] == [FULL["image"]]
    assert batches["all absent"] == dict.fromkeys(MODALITIES, [b""])
    assert batches["empty"] == dict.fromkeys(MODALITIES, [])
    assert {len(rows) for rows in batches["mixed"].values()} == {3 + 6 + 1}


def test_the_fullest_rows_come_first_and_are_at_most_four():
    batches = golden_batches([ROWS[0]] * 5 + [FULL], MODALITIES)
    assert batches["complete"]["audio"] == [FULL["audio"], b"", b"", b""]


def test_without_rows_there_is_no_proof():
    with pytest.raises(ValueError, match="at least one row"):
        golden_batches([], MODALITIES)


def test_broken_golden_rows_are_broken_for_every_modality(predictor):
    batches = golden_batches([FULL], MODALITIES)
    rows = [batches[f"{m} broken"] for m in MODALITIES]
    found = predictor({m: [row[m][0] for row in rows] for m in MODALITIES})
    assert list(found["status"]) == [f"{m} unreadable".encode() for m in MODALITIES]


def test_examples_hold_each_row_and_parse_back():
    one, other = rows_to_examples({"text": [b"a", b""], "image": [b"\xff", b"\0"]})
    features = tf.train.Example.FromString(one).features.feature
    assert {k: v.bytes_list.value[0] for k, v in features.items()} == {
        "text": b"a",
        "image": b"\xff",
    }
    assert tf.train.Example.FromString(other).features.feature[
        "text"
    ].bytes_list.value == [b""]


def write_rows(path, *records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return path


def test_rows_are_read_back_with_what_is_left_out_as_absent(tmp_path):
    both = rows_to_examples({"text": [b"a", b"b"], "image": [b"\xff", b"\0"]})
    alone = rows_to_examples({"text": [b"c"]})
    path = write_rows(tmp_path / "rows", *both, *alone)
    expected = [
        {"text": b"a", "image": b"\xff"},
        {"text": b"b", "image": b"\0"},
        {"text": b"c", "image": b""},
    ]
    assert read_rows(path, ("text", "image"), most=9) == expected
    assert read_rows(path, ("text", "image"), most=2) == expected[:2]


def test_rows_that_are_none_or_no_examples_are_refused(tmp_path):
    with pytest.raises(UserError, match="There are no rows in '.*none'"):
        read_rows(write_rows(tmp_path / "none"), ("text",), 9)
    with pytest.raises(UserError, match="'.*junk' cannot be read: .*parse"):
        read_rows(write_rows(tmp_path / "junk", b"no example"), ("text",), 9)
    (tmp_path / "file").write_bytes(b"no records at all")
    with pytest.raises(UserError, match="'.*file' cannot be read: .*corrupted"):
        read_rows(tmp_path / "file", ("text",), 9)


# The proof --------------------------------------------------------------------


TEXTS = {"good": {"text": [b"hi", b"ho"]}, "absent": {"text": [b""]}}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A model and its export."""
    base = tmp_path_factory.mktemp("small")
    trained_model = table_factory.text_model(base, "multiclass")
    return trained_model, export(trained_model, [{"text": b"hi"}], base / "export")


def proved(path, trained_model, tolerance=1e-5):
    return verify_export(
        path, trained_model, {**TEXTS, "complete": TEXTS["good"]}, tolerance
    )


def test_the_model_that_was_exported_is_proved_and_another_is_not(small):
    trained_model, path = small
    assert 0 <= proved(path, trained_model) < 1e-6
    bias = trained_model.model.get_layer("head").get_layer("logits").weights[1]
    bias.assign_add([0.001, 0.0, 0.0])
    try:
        message = r"Golden batch 'good', row \d, class '(a|b|c)': probabilities differs"
        with pytest.raises(ExportMismatchError, match=message):
            proved(path, trained_model)
        assert 1e-4 < proved(path, trained_model, tolerance=0.01) < 1e-3
    finally:
        bias.assign_sub([0.001, 0.0, 0.0])


def test_what_cannot_be_loaded_is_no_export(small, tmp_path):
    trained_model, path = small
    (tmp_path / "saved_model.pb").write_bytes(b"junk")
    with pytest.raises(
        ExportMismatchError, match="The export cannot be loaded: Read less"
    ):
        proved(tmp_path, trained_model)


def test_what_has_lost_its_variables_is_no_export(small, tmp_path):
    trained_model, path = small
    shutil.copy(path / "saved_model.pb", tmp_path)  # loads as if it had none
    message = "The export fails on golden batch 'good': Could not find variable"
    with pytest.raises(ExportMismatchError, match=message):
        proved(tmp_path, trained_model)


@pytest.mark.parametrize(
    "broken, message",
    [
        ("classify", "The export fails on golden batch 'good': two lines"),
        ("rank", "The export fails on a request of the wrong rank: two lines"),
    ],
)
def test_what_fails_when_it_is_called_is_no_export(small, monkeypatch, broken, message):
    @contextmanager
    def failing(path):
        with loaded(path) as call:

            def call_or_fail(signature, feeds):
                if broken in (signature, "rank" * (feeds.get("text") == b"hi")):
                    raise tf.errors.InternalError(None, None, "two\n  lines")
                return call(signature, feeds)

            yield call_or_fail

    trained_model, path = small
    monkeypatch.setattr(verification, "loaded", failing)
    with pytest.raises(ExportMismatchError, match=message):
        proved(path, trained_model)


def differ(got, expected, key="probabilities"):
    names = SimpleNamespace(state=SimpleNamespace(classes=("a", "b")))
    return verification._close("x", key, np.array(got), np.array(expected), names, 1e-5)


def test_a_difference_names_its_row_its_class_and_its_size():
    assert differ([[0.5, 0.5]], [[0.5, 0.500009]]) == pytest.approx(9e-6)
    assert differ(np.empty([0, 2]), np.empty([0, 2])) == 0.0
    with pytest.raises(
        ExportMismatchError, match="'x', row 1, class 'b': .* by 0.1, more than"
    ):
        differ([[0.5, 0.5], [0.5, 0.4]], [[0.5, 0.5], [0.5, 0.5]])


def test_a_nan_is_no_agreement():
    with pytest.raises(ExportMismatchError, match="differs from the model"):
        differ([[np.nan, 0.5]], [[0.5, 0.5]])


def test_another_shape_is_no_agreement():
    with pytest.raises(
        ExportMismatchError, match=r"shape \(1, 1\), and the model gives \(1, 2\)"
    ):
        differ([[0.5]], [[0.5, 0.5]])


def test_an_embedding_is_compared_by_its_own_size():
    differ([[1000.005]], [[1000.0]], "embedding")
    with pytest.raises(ExportMismatchError):
        differ([[0.005]], [[0.0]], "embedding")


def test_a_request_of_the_wrong_rank_must_be_refused():
    def refuses(signature, feeds):
        raise tf.errors.InvalidArgumentError(None, None, "rank")

    rows = {"text": [b"a", b"b"]}
    verification._refuses_wrong_ranks(refuses, rows)
    ranks = []

    def answers_matrices(signature, feeds):
        ranks.append(np.ndim(feeds["text"]))
        if ranks[-1] == 0:
            return refuses(signature, feeds)
        return {}

    with pytest.raises(ExportMismatchError, match="wrong rank was answered"):
        verification._refuses_wrong_ranks(answers_matrices, rows)
    assert ranks == [0, 2]


def test_another_label_or_status_is_no_agreement(trained_model):
    same = {
        "probabilities": np.array([[0.4, 0.6]]),
        "score": np.array([0.6]),
        "embedding": np.zeros((1, 8)),
        "label": np.array([b"red"], object),
        "status": np.array([b"ok"], object),
    }

    def compare(**changes):
        def call(signature, feeds):
            classes = np.array([[b"green", b"red"]], object)
            if signature == "classify":
                answer = {"classes": classes, "scores": same["probabilities"]}
                return {k: changes.get(k, v) for k, v in answer.items()}
            return {**same, **changes}

        rows = {m: [FULL[m]] for m in MODALITIES}
        verification._compare("x", rows, call, same, trained_model, 1e-5)

    compare()
    with pytest.raises(ExportMismatchError, match="label is .*green"):
        compare(label=np.array([b"green"], object))
    with pytest.raises(ExportMismatchError, match="status is .*image absent"):
        compare(status=np.array([b"image absent"], object))
    with pytest.raises(ExportMismatchError, match="classify names other classes"):
        compare(classes=np.array([[b"red", b"green"]], object))
    with pytest.raises(ExportMismatchError, match="scores differs"):
        compare(scores=np.array([[0.6, 0.4]]))
