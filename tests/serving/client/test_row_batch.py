"""Batches of rows: rejected rows, laziness, limits."""

import pytest

from mmkeras.errors import UserError
from serving.client import grpc_codec
from serving.client.model_info import ModelInfo
from serving.client.prediction import Prediction
from serving.client.protocol import ClientProtocol
from serving.client.row_batch import RowBatch, batches, check_stream
from serving.client.settings import Settings

COLUMNS = {"text": "text", "image": "image"}


@pytest.fixture
def make_batch():
    settings = Settings(target="localhost:8500", max_message_bytes=10_000)
    model = ModelInfo(
        version=1,
        columns=COLUMNS,
        absent=dict.fromkeys(COLUMNS, b""),
        classes=("a", "b"),
    )
    protocol = ClientProtocol(settings, grpc_codec)
    return lambda rows: RowBatch(rows, model, settings, protocol)


def test_predictions_are_in_the_order_of_the_rows(make_batch):
    rows = [{"text": "a"}, {"text": "x" * 10_000}, {"image": "gone.png"}, {}]
    batch = make_batch(rows)
    assert [row.data for row in batch.prepared] == [{"text": b"a"}, {}, {}]
    assert list(batch.prepared[1].problems) == ["image"]
    predictions = batch.merge(
        [
            Prediction(label=label, score=1.0, probabilities={}, status="ok")
            for label in "123"
        ]
    )
    assert [prediction.label for prediction in predictions] == ["1", "", "2", "3"]
    assert "more than a message may have" in predictions[1].status


def test_a_wrong_name_is_an_error_and_not_a_rejected_row(make_batch):
    with pytest.raises(UserError, match="has no column 'audio'"):
        make_batch([{"audio": "a.wav"}])


def test_batches_read_no_further_than_needed_and_end_with_an_error():
    rows_read, errors = [], []

    def rows():
        for i in range(10):
            rows_read.append(i)
            yield i
        raise ZeroDivisionError

    iterator = batches(rows(), 4, errors)
    assert next(iterator) == [0, 1, 2, 3] and len(rows_read) == 4
    assert list(iterator) == [[4, 5, 6, 7], [8, 9]]
    assert [type(error) for error in errors] == [ZeroDivisionError]


@pytest.mark.parametrize(
    ("numbers", "error"), [((0, 1), "in_flight=0"), ((1, 0), "batch=0")]
)
def test_concurrency_and_batch_size_have_limits(numbers, error):
    check_stream(1, 1)
    with pytest.raises(UserError, match=error):
        check_stream(*numbers)
