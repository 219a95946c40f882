"""Fuzzing of the server in this process, through its gRPC and ASGI handlers."""

import json
import os
import random
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import grpc
import tensorflow as tf
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.server.configs import read_batching
from serving.server.engine.admission import WeightedSemaphore
from serving.server.engine.batching import BatchScheduler
from serving.server.engine.data_plane import DataPlane, Limits
from serving.server.engine.message_parsing import parse_message
from serving.server.engine.servable import Servable
from serving.server.grpc import server
from serving.server.grpc.arrivals import ArrivalGate
from serving.server.metrics import Metrics
from serving.server.models.manager import Manager
from serving.server.rest.app import RestApp
from tests.serving.fuzzing import http_requests, messages, oracle
from tests.serving.fuzzing.mutation import mutate, mutate_message
from tests.serving.server.asgi import call_asgi

RELOAD = "HandleReloadConfigRequest"
TIMEOUT_S = 20.0
_MESSAGE_BYTES = 2**24
_RELOAD_S = 0.02  # a reload waits for the first version until its deadline


class InProcessServer:
    """Models with the gRPC and ASGI handlers.

    Attributes:
        signatures: {model: its signatures}.
    """

    def __init__(self, models: dict[str, Path], batching: Path | None):
        self._scheduler = None
        if batching:
            self._scheduler = BatchScheduler(read_batching(batching), lambda us: None)
        limits = Limits(message_bytes=_MESSAGE_BYTES)
        semaphore = WeightedSemaphore(limits.rows, "rows")
        load = partial(Servable, semaphore=semaphore, scheduler=self._scheduler)
        self._manager = Manager(load, log=lambda line: 0)
        config = ModelServerConfig()
        for name, path in models.items():
            config.model_config_list.config.add(
                name=name, base_path=str(path), model_platform="tensorflow"
            )
        self._manager.apply(config)
        data_plane = DataPlane(self._manager, Metrics(), limits)
        self._app = RestApp(data_plane, limits, timeout_s=TIMEOUT_S)
        self.signatures = {}
        for name in models:
            with data_plane.admit(model_pb2.ModelSpec(name=name)) as handle:
                self.signatures[name] = dict(handle.servable.signatures)
        # Reloads use another manager, with fake models.
        self._reloaded = Manager(lambda *_: Mock(), poll_s=0.01, log=lambda line: 0)
        reloaded = DataPlane(self._reloaded, Metrics(), limits)
        self._handlers = _handlers(data_plane)
        self._handlers[RELOAD] = _handlers(reloaded)[RELOAD]
        # The current input is in a file, for the case that TensorFlow crashes.
        path = os.environ.get("FUZZING_LAST_INPUT", os.devnull)
        self._last_input = os.open(path, os.O_RDWR | os.O_CREAT)

    def close(self) -> None:
        self._app.close()
        self._manager.close()
        self._reloaded.close()
        if self._scheduler:
            self._scheduler.close()
        os.close(self._last_input)

    def _note(self, name: str, data: bytes) -> None:
        head = json.dumps([name[:200], len(data)]).encode() + b"\n"
        os.pwrite(self._last_input, head + data[: 2**20], 0)

    def call(self, method: str, data: bytes) -> tuple[str, str | None]:
        """Calls a gRPC method with bytes; returns the result and its problem."""
        self._note(method, data)
        handler = self._handlers[method]
        context = _Context(_RELOAD_S if method == RELOAD else TIMEOUT_S)
        try:
            response = handler.stream_unary(iter([data]), context)
        except _Aborted as error:
            return error.code.name, oracle.check_error(method, error.code, error.text)
        finally:
            for callback in context.callbacks:
                callback()
        response = type(response).FromString(handler.response_serializer(response))
        request = parse_message(messages.REQUESTS[method], data)
        return "OK", oracle.check_response(method, request, response)

    def send(self, request: http_requests.HttpRequest) -> tuple[str, str | None]:
        """Calls the ASGI application; returns the result and its problem."""
        method, target, body = request.method, request.target, request.body
        self._note(f"{method} {target}", body)
        status, headers, body = call_asgi(
            self._app, method, target, body, **request.headers
        )
        if method in ("HEAD", "OPTIONS"):
            return str(status), None
        return str(status), oracle.check_http(status, headers, body)


@dataclass
class _Aborted(Exception):
    code: grpc.StatusCode
    text: str


class _Context:
    """Fake gRPC context."""

    def __init__(self, seconds: float):
        self.time_remaining = lambda: seconds
        self.cancel = lambda: None
        self.callbacks: list[Callable[[], None]] = []

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self.callbacks.append(callback)
        return True

    def abort(self, code, details):
        raise _Aborted(code, details)


def _handlers(data_plane: DataPlane):
    gate = ArrivalGate(data_plane.bytes, _MESSAGE_BYTES, 4)
    calls = server.build_calls(data_plane)
    return {c.name: server.build_handler(c, data_plane, gate) for c in calls}


def run_examples(
    strategy: st.SearchStrategy, count: int, number: int, take: Callable
) -> None:
    """Calls `take` with `count` values of a strategy, reproducibly for a seed."""
    options = settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    seed(number)(options(given(strategy)(lambda value: take(value))))()


def run(
    report: oracle.Report,
    models: dict[str, Path],
    folder: Path,
    inputs: int,
    number: int,
    batching: Path | None,
) -> None:
    """Sends about `inputs` inputs, in phases, to models with these base paths.

    Args:
        folder: Empty folder for the base paths of reloads.
        number: Seed.
        batching: File with the parameters of batching.
    """
    (folder / "a" / "1").mkdir(parents=True, exist_ok=True)
    with closing(InProcessServer(models, batching)) as server:
        for name, part in _phases(server, folder, number):
            title = f"{name}{', batches' if batching else ''}"
            with report.phase(title, os.getpid()):
                part(report, inputs)


def _phases(server: InProcessServer, folder: Path, number: int):
    """Yields (name, run(report, inputs of all phases)) of each phase."""
    rng = random.Random(number)
    seeds: dict[str, list[bytes]] = {name: [] for name in messages.REQUESTS}

    def call(report, method, request):
        data = request.SerializeToString()
        result, problem = server.call(method, data)
        # The mutations start from valid and from invalid requests.
        if len(data) < 5000 and (result == "OK" or len(seeds[method]) < 100):
            seeds[method].append(data)
        report.record(result, problem, (method, request))

    def generate(strategy, share):
        def phase(report, inputs):
            count = int(inputs * share / len(server.signatures))
            for name, signatures in server.signatures.items():
                examples = strategy(name, signatures)
                run_examples(examples, count, number, lambda m: call(report, *m))

        return phase

    def mutations(method):
        def phase(report, inputs):
            for _ in range(int(inputs * _MUTATED[method])):
                known = seeds[method] or [b""]
                data = rng.choice(known)
                if rng.randrange(2):
                    data = mutate(rng, data, known)
                else:
                    request = messages.REQUESTS[method].FromString(data)
                    mutate_message(rng, request)
                    data = request.SerializeToString()
                report.record(*server.call(method, data), (method, data))

        return phase

    def predict(name, signatures):
        return st.tuples(st.just("Predict"), messages.draw_predict(name, signatures))

    yield "Predict, generated", generate(predict, 0.025)
    inference = generate(messages.draw_inference, 0.02)
    yield "Classify, Regress, MultiInference, generated", inference
    model_request = partial(messages.draw_model_request, folder=str(folder))
    yield "metadata, status, reload, generated", generate(model_request, 0.01)
    for method in messages.REQUESTS:
        yield f"{method}, mutated", mutations(method)
    yield "media, mutated bytes", partial(_media, server, rng)
    yield "REST", partial(_rest, server, rng, number)


_MUTATIONS = 4  # per generated request, whose generation is slow
_MUTATED = dict.fromkeys(("Classify", "Regress", "MultiInference"), 0.1)
_MUTATED |= dict.fromkeys(("GetModelMetadata", "GetModelStatus"), 0.04)
_MUTATED |= {"Predict": 0.37, RELOAD: 0.01}


def _media(server: InProcessServer, rng: random.Random, report, inputs: int) -> None:
    """Sends mutated images, audio and vectors in valid requests."""
    kinds = messages.media()
    for _ in range(int(inputs * 0.06)):
        name = rng.choice(sorted(server.signatures))
        plain = sorted(s for s in server.signatures[name] if s[0] != "_")
        signature = "pixels" if "pixels" in plain else rng.choice(plain)
        request = messages.REQUESTS["Predict"]()
        request.model_spec.name, request.model_spec.signature_name = name, signature
        rows = rng.randint(1, 2)
        for alias in server.signatures[name][signature].inputs:
            values = [mutate(rng, rng.choice(kinds), kinds) for _ in range(rows)]
            request.inputs[alias].CopyFrom(tf.make_tensor_proto(values))
        data = request.SerializeToString()
        report.record(*server.call("Predict", data), ("media", request))


def _rest(
    server: InProcessServer, rng: random.Random, number: int, report, inputs: int
) -> None:
    """Sends each generated request, and mutations of its body and target."""

    def send(request: http_requests.HttpRequest):
        report.record(*server.send(request), request)
        for _ in range(_MUTATIONS):
            body = mutate(rng, request.body, [request.body])
            target = request.target
            if not rng.randrange(8):
                target = mutate(rng, target.encode("latin-1"), []).decode("latin-1")
            other = replace(request, body=body, target=target)
            report.record(*server.send(other), other)

    count = int(inputs * 0.15 / len(server.signatures) / (1 + _MUTATIONS))
    for name, signatures in server.signatures.items():
        run_examples(
            http_requests.draw_http_requests(name, signatures), count, number, send
        )
