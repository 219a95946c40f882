"""Calls by transports of either protocol, blocking or awaited."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from serving.client import grpc_transport, rest_transport
from serving.client.errors import PredictError
from serving.client.requests import ModelSpec, PredictCall, Reply
from serving.client.settings import GRPC, Settings

SPEC = ModelSpec(model="mmkeras")
PREDICT = PredictCall(spec=SPEC, columns={"text": [b"hi"]})
TIMEOUT_S = 20


@contextmanager
def open_transport(settings: Settings, is_async: bool) -> Iterator[Callable]:
    """Yields send(call, timeout_s) of a new transport."""
    module = grpc_transport if settings.transport == GRPC else rest_transport
    name = "GrpcTransport" if settings.transport == GRPC else "RestTransport"
    if not is_async:
        transport = getattr(module, name)(settings)
        try:
            yield transport.send
        finally:
            transport.close()
        return

    async def create():
        return getattr(module, f"Async{name}")(settings)

    loop = asyncio.new_event_loop()
    transport = loop.run_until_complete(create())
    try:
        yield lambda *call: loop.run_until_complete(transport.send(*call))
    finally:
        loop.run_until_complete(transport.close())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


class Sender:
    """Sends each call by a new transport."""

    def __init__(self, is_async: bool):
        self.is_async = is_async

    def __call__(self, target, call=PREDICT, timeout_s=TIMEOUT_S, **settings) -> Reply:
        with open_transport(Settings(target=target, **settings), self.is_async) as send:
            return send(call, timeout_s)

    def error(self, *args, **kwargs) -> PredictError:
        """Returns the error of a call that must fail."""
        with pytest.raises(PredictError) as error:
            self(*args, **kwargs)
        return error.value
