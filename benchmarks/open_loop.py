"""A client that asks at a rate, however slow the answers; or so many at once.

A program of its own, without TensorFlow, so that several of them can take a core each
from the start. It prints JSON: {"asked", "held_back", "seconds", "answers": {"OK", or
code and reason: [ms from a request to its answer]}}. Held back is what was due while
`--flying` requests had no answer yet: where there is any, the client was the limit.
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

_REASON = 60  # characters of it that are told apart
# -> "OK", or the code and the reason, or why there is no answer
Ask = Callable[[], Awaitable[str]]


def _failure(code: str, text: str) -> str:
    """One line for all errors that differ in numbers only."""
    return f"{code}: {re.sub(r'[0-9]+', 'N', text)[:_REASON]}"


class GrpcAsker:
    """Asks a method by gRPC, over a few connections."""

    def __init__(self, target: str, method: str, message: bytes, timeout_s: float):
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [
            grpc.aio.insecure_channel(target, options) for _ in range(_CHANNELS)
        ]
        self._calls = [channel.unary_unary(f"/{method}") for channel in channels]
        self._message, self._timeout_s, self._turn = message, timeout_s, 0

    async def ask(self) -> str:
        self._turn = (self._turn + 1) % len(self._calls)
        try:
            await self._calls[self._turn](self._message, timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            return _failure(error.code().name, error.details())
        return "OK"


class RestAsker:
    """Posts JSON to a path; as many connections as requests at once."""

    def __init__(self, target: str, path: str, body: bytes, timeout_s: float):
        self._host, _, self._port = target.partition(":")
        head = f"POST {path} HTTP/1.1\r\nHost: {target}\r\nContent-Length: {len(body)}"
        self._message = f"{head}\r\nContent-Type: application/json\r\n\r\n".encode()
        self._message += body
        self._timeout_s = timeout_s
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self) -> str:
        try:
            return await asyncio.wait_for(self._ask(), self._timeout_s)
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            return _failure("no answer", type(error).__name__)

    async def _ask(self) -> str:
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


class Run:
    """Requests under way, and what came of them."""

    def __init__(self, ask: Ask, flying: int):
        self._ask, self._most = ask, flying
        self._tasks: set[asyncio.Task] = set()
        self.asked = self.held_back = 0
        self.answers: dict[str, list[float]] = {}

    async def at_a_rate(self, per_s: float, seconds: float) -> None:
        """Asks `per_s` times a second, whatever becomes of it."""
        start_s, due = time.perf_counter(), 0
        while (now_s := time.perf_counter() - start_s) < seconds:
            late, due = int(now_s * per_s) - due, int(now_s * per_s)
            now = min(late, self._most - len(self._tasks))
            self.held_back += late - now
            for _ in range(now):
                task = asyncio.create_task(self._one())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(_TICK_S)
        await asyncio.gather(*self._tasks)

    async def closed(self, seconds: float) -> None:
        """Keeps `flying` requests under way."""
        end_s = time.perf_counter() + seconds

        async def keep_asking():
            while time.perf_counter() < end_s:
                await self._one()

        await asyncio.gather(*(keep_asking() for _ in range(self._most)))

    async def _one(self) -> None:
        self.asked += 1
        start_s = time.perf_counter()
        code = await self._ask()
        ms = 1e3 * (time.perf_counter() - start_s)
        self.answers.setdefault(code, []).append(round(ms, 2))


async def _run(words: argparse.Namespace) -> dict:
    kind = GrpcAsker if words.door == "gRPC" else RestAsker
    body = words.body.read_bytes()
    asker = kind(words.target, words.path, body, words.timeout)
    run = Run(asker.ask, words.flying)
    start_s = time.perf_counter()
    if words.rate is None:
        await run.closed(words.seconds)
    else:
        await run.at_a_rate(words.rate, words.seconds)
    return {
        "asked": run.asked,
        "held_back": run.held_back,
        "seconds": time.perf_counter() - start_s,
        "answers": run.answers,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--door", choices=["gRPC", "REST"], required=True)
    parser.add_argument("--target", required=True, help="HOST:PORT")
    parser.add_argument("--path", required=True, help="method, or path of the URL")
    parser.add_argument("--body", type=Path, required=True, help="file: a request")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument(
        "--rate", type=float, help="requests a second; else closed loop"
    )
    parser.add_argument("--flying", type=int, required=True, help="at once, at most")
    parser.add_argument("--timeout", type=float, default=10.0, help="of a request")
    print(json.dumps(asyncio.run(_run(parser.parse_args()))))


if __name__ == "__main__":
    main()
