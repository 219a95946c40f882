"""The client that is awaited: the same answers, errors and bounds."""

import asyncio
import itertools
import threading

import grpc
import pytest

from mmkeras.errors import UserError
from serving.client import AsyncClient, Client, PredictError
from serving.client.errors import too_late
from tests import table_factory
from tests.serving.client.fake_server import Fault
from tests.serving.client.test_client import (
    FULL,
    SlowDoor,
    echoing,
    failing_after,
    texts,
    together,
)

CODES = grpc.StatusCode


def running(target, use, **settings):
    async def run():
        async with AsyncClient(target, **settings) as client:
            return await use(client)

    return asyncio.run(run())


async def collected(stream):
    return [answer async for answer in stream]


def test_answers_are_those_of_the_client_that_waits(door, stand, tmp_path):
    (tmp_path / "a.flac").write_bytes(table_factory.tone(kind="FLAC"))
    rows = [
        {"text": "warm fire", "image": table_factory.picture()},
        {"audio": tmp_path / "a.flac"},
        {"image": "gone.png"},
    ]
    target = door(stand)
    with Client(target) as client:
        model = client.describe()
        one, two = client.predict(**rows[0]), client.predict_rows(rows[:2])
        three = list(client.stream(rows, batch=2))

    async def use(client):
        assert await client.describe() == model
        assert await client.predict(**rows[0]) == one
        assert await client.predict_rows(rows[:2]) == two
        assert await client.predict_rows([]) == []
        assert await collected(client.stream(rows, batch=2)) == three

    running(target, use)


def test_errors_and_retries_are_the_same(door, plain):
    target = door(plain)

    async def use(client):
        plain.faults += [Fault(CODES.UNAVAILABLE, FULL)] * 2
        assert (await client.predict(text="a")).label == "a"
        assert plain.calls["Predict"] == 3
        plain.faults.append(Fault(CODES.INVALID_ARGUMENT, "no"))
        with pytest.raises(PredictError, match="answered INVALID_ARGUMENT: no"):
            await client.predict(text="a")
        assert plain.calls["Predict"] == 4
        plain.faults += [Fault(CODES.UNAVAILABLE, FULL)] * 3
        with pytest.raises(PredictError, match="sent 3 times"):
            await client.predict(text="a")
        with pytest.raises(UserError, match="takes no image"):
            await client.predict(image="x.png")

    running(target, use, retries=2)


def test_many_requests_are_under_way_and_no_more_than_told(door, plain):
    labels = [f"class {i}" for i in range(10)]
    plain.versions, plain.before = {3: echoing(labels)}, together(5)
    read, answered, most_ahead = 0, 0, 0

    async def rows():
        nonlocal read, most_ahead
        for row in itertools.islice(itertools.cycle(texts(10)), 100):
            read += 1
            most_ahead = max(most_ahead, read - answered)
            yield row

    async def use(client):
        nonlocal answered
        found = []
        async for answer in client.stream(rows(), in_flight=5):
            answered += 1
            found.append(answer.label)
        return found

    assert running(door(plain), use) == labels * 10
    assert plain.most == 5 and most_ahead <= 2 * 5 + 1


def test_a_stream_that_is_left_sends_no_more(door, plain):
    gone = threading.Event()
    plain.before = lambda request: (
        request.inputs["text"].string_val[0] != b"0" and gone.wait(60)
    )

    async def use(client):
        stream = client.stream(itertools.cycle(texts(3)), in_flight=2)
        async for _ in stream:
            break
        # Those under way are given up, not waited for.
        await asyncio.wait_for(stream.aclose(), 20)
        gone.set()
        await asyncio.sleep(0.2)  # for what is on its way
        sent = plain.calls["Predict"]
        await asyncio.sleep(0.2)
        return sent

    assert running(door(plain), use) == plain.calls["Predict"] < 20


def test_an_error_ends_a_stream_after_the_answers_before_it(door, plain):
    def fail(request):
        if request.inputs["text"].string_val[0] == b"7":
            raise Fault(CODES.INTERNAL, "seven")

    plain.before, answers = fail, []

    async def use(client):
        async for answer in client.stream(texts(50), in_flight=2):
            answers.append(answer)

    with pytest.raises(PredictError, match="seven"):
        running(door(plain), use)
    assert len(answers) == 7


def test_a_call_has_one_deadline_with_the_description(monkeypatch):
    door = SlowDoor()

    class Door:
        async def send(self, call, timeout_s):
            return door.send(call, timeout_s)

        async def close(self):
            pass

    async def use(client):
        await client._door.close()
        client._door = Door()
        for module in ("async_client", "exchange"):
            monkeypatch.setattr(f"serving.client.{module}.time", door)
        assert (await client.predict(text="a")).label == "a"

    running("localhost:8500", use, timeout_s=10)
    assert door.given_s == [10.0, 7.0, 4.0]


def test_who_waits_for_anothers_description_has_no_longer_for_that(monkeypatch):
    door = SlowDoor()

    class Door:
        async def send(self, call, timeout_s):
            await asyncio.sleep(0)  # the others come
            door.send(call, timeout_s)
            raise too_late("t", timeout_s)

        async def close(self):
            pass

    async def use(client):
        await client._door.close()
        client._door = Door()
        for module in ("async_client", "exchange"):
            monkeypatch.setattr(f"serving.client.{module}.time", door)
        asked = [client.predict(text="a") for _ in range(3)]
        return await asyncio.gather(*asked, return_exceptions=True)

    errors = running("localhost:8500", use, timeout_s=10)
    assert [error.code for error in errors] == ["DEADLINE_EXCEEDED"] * 3
    assert door.given_s == [10.0, 7.0, 4.0]


def test_a_client_that_is_closed_says_so(door, plain):
    async def use(client):
        await client.predict(text="a")
        await client.__aexit__(None, None, None)
        await client.predict(text="a")

    with pytest.raises(PredictError, match="the client is closed"):
        running(door(plain), use)


@pytest.mark.parametrize("is_async", [True, False])
def test_rows_that_fail_are_an_error_after_the_answers_to_those_before(
    door, plain, is_async
):
    async def rows():
        for row in failing_after(texts(10)):
            yield row

    async def use(client):
        given = rows() if is_async else failing_after(texts(10))
        async for answer in client.stream(given, batch=3):
            answers.append(answer.label)

    answers = []
    with pytest.raises(ZeroDivisionError, match="no more rows"):
        running(door(plain), use)
    assert answers == ["a"] * 10


def test_it_must_be_opened_first():
    client = AsyncClient("localhost:8500")
    with pytest.raises(RuntimeError, match="opened by `async with`"):
        asyncio.run(client.predict(text="a"))
