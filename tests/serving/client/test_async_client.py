"""`AsyncClient` alone: asynchronous rows, `async with`.

test_client.py tests the behavior that both clients share.
"""

import asyncio

import pytest

from serving.client import AsyncClient


def test_rows_may_be_an_asynchronous_iterable(serve, text_server):
    async def rows():
        for i in range(10):
            yield {"text": str(i)}
        raise ZeroDivisionError("no more rows")

    async def run():
        async with AsyncClient(serve(text_server)) as client:
            async for prediction in client.stream(rows(), batch=3):
                labels.append(prediction.label)

    labels = []
    with pytest.raises(ZeroDivisionError, match="no more rows"):
        asyncio.run(run())
    assert labels == ["a"] * 10
    assert sorted(text_server.batch_sizes) == [1, 3, 3, 3]


def test_it_must_be_opened_by_async_with():
    client = AsyncClient("localhost:8500")
    with pytest.raises(RuntimeError, match="async with"):
        asyncio.run(client.predict(text="a"))
