"""Load client with an open loop (constant rate) or a closed loop (constant number).

A separate program without TensorFlow, so that several can use one core each. It prints
JSON: {"requests", "held_back", "seconds", "times_ms": {"OK", or code and reason: [ms
per request]}}. Requests that are due while `--in-flight` requests are open are held
back: then the client limits the rate.
"""

import argparse
import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc

_TICK_S = 0.002
_CHANNELS = 4
_CODES = {429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}

_MAX_REASON = 60  # characters that distinguish reasons
# send() -> "OK", or code and reason of the failure
Send = Callable[[], Awaitable[str]]


def _failure(code: str, text: str) -> str:
    """Returns the code and reason of an error, without its numbers."""
    return f"{code}: {re.sub(r'[0-9]+', 'N', text)[:_MAX_REASON]}"


class GrpcSender:
    """Calls a gRPC method over a few connections."""

    def __init__(self, target: str, method: str, message: bytes, timeout_s: float):
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [
            grpc.aio.insecure_channel(target, options) for _ in range(_CHANNELS)
        ]
        self._calls = [channel.unary_unary(f"/{method}") for channel in channels]
        self._message, self._timeout_s, self._turn = message, timeout_s, 0

    async def send(self) -> str:
        self._turn = (self._turn + 1) % len(self._calls)
        try:
            await self._calls[self._turn](self._message, timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            return _failure(error.code().name, error.details())
        return "OK"


class RestSender:
    """Posts JSON to a path, with one connection per concurrent request."""

    def __init__(self, target: str, path: str, body: bytes, timeout_s: float):
        self._host, _, self._port = target.partition(":")
        head = f"POST {path} HTTP/1.1\r\nHost: {target}\r\nContent-Length: {len(body)}"
        self._message = f"{head}\r\nContent-Type: application/json\r\n\r\n".encode()
        self._message += body
        self._timeout_s = timeout_s
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def send(self) -> str:
        try:
            return await asyncio.wait_for(self._send(), self._timeout_s)
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            return _failure("no answer", type(error).__name__)

    async def _send(self) -> str:
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(self._message)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(re.search(rb"(?i)length: (\d+)", head)[1])
            body = await reader.readexactly(length)
        except BaseException:
            writer.close()
            raise
        if re.search(rb"(?i)connection: close", head):
            writer.close()
        else:
            self._idle.append((reader, writer))
        status = int(head.split(None, 2)[1])
        if status == 200:
            return "OK"
        code = _CODES.get(status, f"HTTP {status}")
        return _failure(code, json.loads(body)["error"])


class LoadRun:
    """Requests of one run and their times."""

    def __init__(self, send: Send, in_flight: int):
        self._send, self._max_in_flight = send, in_flight
        self._tasks: set[asyncio.Task] = set()
        self.requests = self.held_back = 0
        self.times_ms: dict[str, list[float]] = {}

    async def run_open_loop(self, per_s: float, seconds: float) -> None:
        """Sends requests at a rate, independent of the responses."""
        start_s, total = time.perf_counter(), 0
        while (now_s := time.perf_counter() - start_s) < seconds:
            due, total = int(now_s * per_s) - total, int(now_s * per_s)
            count = min(due, self._max_in_flight - len(self._tasks))
            self.held_back += due - count
            for _ in range(count):
                task = asyncio.create_task(self._send_one())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(_TICK_S)
        await asyncio.gather(*self._tasks)

    async def run_closed_loop(self, seconds: float) -> None:
        """Keeps the maximum number of requests in flight."""
        end_s = time.perf_counter() + seconds

        async def send_until_end():
            while time.perf_counter() < end_s:
                await self._send_one()

        await asyncio.gather(*(send_until_end() for _ in range(self._max_in_flight)))

    async def _send_one(self) -> None:
        self.requests += 1
        start_s = time.perf_counter()
        code = await self._send()
        ms = 1e3 * (time.perf_counter() - start_s)
        self.times_ms.setdefault(code, []).append(round(ms, 2))


async def _run(arguments: argparse.Namespace) -> dict:
    kind = GrpcSender if arguments.transport == "gRPC" else RestSender
    body = arguments.body.read_bytes()
    sender = kind(arguments.target, arguments.path, body, arguments.timeout)
    run = LoadRun(sender.send, arguments.in_flight)
    start_s = time.perf_counter()
    if arguments.rate is None:
        await run.run_closed_loop(arguments.seconds)
    else:
        await run.run_open_loop(arguments.rate, arguments.seconds)
    return {
        "requests": run.requests,
        "held_back": run.held_back,
        "seconds": time.perf_counter() - start_s,
        "times_ms": run.times_ms,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transport", choices=["gRPC", "REST"], required=True)
    parser.add_argument("--target", required=True, help="HOST:PORT")
    parser.add_argument("--path", required=True, help="method, or path of the URL")
    parser.add_argument("--body", type=Path, required=True, help="file with a request")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rate", type=float, help="requests per second; else closed")
    parser.add_argument("--in-flight", type=int, required=True, help="maximum")
    parser.add_argument("--timeout", type=float, default=10.0, help="of a request")
    print(json.dumps(asyncio.run(_run(parser.parse_args()))))


if __name__ == "__main__":
    main()
