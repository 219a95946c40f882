"""The rows of one request: what cannot go stops no other."""

import pytest

from mmkeras.errors import UserError
from serving.client import grpc_codec
from serving.client.model_info import ModelInfo
from serving.client.prediction import Prediction
from serving.client.protocol import ClientProtocol
from serving.client.row_batch import RowBatch, batches, check_flow
from serving.client.settings import Settings

SETTINGS = Settings(target="localhost:8500", max_message_bytes=10_000)
MODEL = ModelInfo(version=1, modalities=("text", "image"), classes=("a", "b"))


def made(rows):
    return RowBatch(rows, MODEL, SETTINGS, ClientProtocol(SETTINGS, grpc_codec))


def answer(label):
    return Prediction(label=label, score=1.0, probabilities={}, status="ok")


def test_answers_come_back_in_the_order_of_the_rows():
    part = made([{"text": "a"}, {"text": "x" * 10_000}, {"image": "gone.png"}, {}])
    assert [row.data for row in part.sendable] == [{"text": b"a"}, {}, {}]
    assert list(part.sendable[1].broken) == ["image"]
    merged = part.merged([answer("1"), answer("2"), answer("3")])
    assert [a.label for a in merged] == ["1", "", "2", "3"]
    assert "more than a message may have" in merged[1].status


def test_a_wrong_name_is_a_mistake_and_no_bad_row():
    with pytest.raises(UserError, match="takes no audio"):
        made([{"audio": "a.wav"}])


def test_batches_read_no_further_than_they_are_asked():
    taken = []
    rows = ({"text": taken.append(i) or str(i)} for i in range(10))
    parts = batches(rows, 4)
    assert len(next(parts)) == 4 and len(taken) == 4
    assert [len(part) for part in parts] == [4, 2]


def test_the_flow_has_bounds():
    check_flow(1, 1)
    with pytest.raises(UserError, match="in_flight=0"):
        check_flow(0, 1)
    with pytest.raises(UserError, match="batch=0"):
        check_flow(1, 0)
