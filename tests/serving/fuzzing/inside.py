"""The server in this process, behind the handlers of its doors but without wires."""

import io
import json
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import grpc
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.server.configs import Batching
from serving.server.engine.admission import WeightedSemaphore
from serving.server.engine.batching import BatchScheduler
from serving.server.engine.data_plane import DataPlane, Limits
from serving.server.engine.message_parsing import parse_message
from serving.server.engine.servable import Servable
from serving.server.grpc import server
from serving.server.metrics import Metrics
from serving.server.models.manager import Manager
from serving.server.rest.app import build_app
from tests.serving.fuzzing import messages, verdict, web
from tests.serving.fuzzing.mutation import altered, mutated

TIMEOUT_S = 20.0
_MESSAGE_BYTES = 2**24
_RELOAD_S = 0.02  # a base path without versions is waited for until the deadline
BATCHING = Batching(
    max_batch_size=32,
    allowed_batch_sizes=(8, 32),
    num_batch_threads=1,
    pad_variable_length_inputs=True,
)


class Server:
    """Models and the handlers of both doors.

    Attributes:
        signatures: {model: its signatures}.
    """

    def __init__(self, models: dict[str, Path], batching: Batching | None):
        self._scheduler = batching and BatchScheduler(batching, lambda us: None)
        limits = Limits(message_bytes=_MESSAGE_BYTES)
        room = WeightedSemaphore(limits.rows, "rows")
        self._manager = Manager(
            partial(Servable, room=room, scheduler=self._scheduler), say=lambda line: 0
        )
        self._manager.apply(_config(models))
        core = DataPlane(self._manager, Metrics(), limits)
        self._handlers = _handlers(core)
        self._last = LastInput()
        self._app = build_app(core, timeout_s=TIMEOUT_S, max_body_bytes=_MESSAGE_BYTES)
        self.signatures = {
            name: dict(core.signatures(model_pb2.ModelSpec(name=name)))
            for name in models
        }
        # Reloads have a manager of their own, whose models are nothing.
        self._reloaded = Manager(
            lambda *_: SimpleNamespace(close=lambda: None),
            poll_s=0.01,
            say=lambda line: 0,
        )
        reload_core = DataPlane(self._reloaded, Metrics(), limits)
        self._reload = _handlers(reload_core)["HandleReloadConfigRequest"]

    def close(self) -> None:
        self._manager.close()
        self._reloaded.close()
        if self._scheduler:
            self._scheduler.close()

    def call(self, method: str, data: bytes) -> tuple[str, str | None]:
        """Hands bytes to a method's handler; returns the result and what is wrong."""
        reload = method == "HandleReloadConfigRequest"
        handler = self._reload if reload else self._handlers[method]
        self._last.note(method, data)
        try:
            response = handler.unary_unary(
                data, _Context(_RELOAD_S if reload else TIMEOUT_S)
            )
        except _Aborted as error:
            return error.code.name, verdict.fault_of_error(
                method, error.code, error.text
            )
        response = type(response).FromString(handler.response_serializer(response))
        request = parse_message(messages.REQUESTS[method], data)
        return "OK", verdict.fault_of_response(method, request, response)

    def ask(self, request: web.WebRequest) -> tuple[str, str | None]:
        """Hands a request to the application; returns the result and what is wrong."""
        self._last.note(f"{request.method} {request.target}", request.body)
        environ = {
            "REQUEST_METHOD": request.method,
            "REQUEST_URI": request.target,
            "CONTENT_LENGTH": str(len(request.body)),
            "wsgi.input": io.BytesIO(request.body),
            **request.headers,
        }
        answer = {}

        def start(status, headers):
            answer.update(status=int(status.split()[0]), headers=dict(headers))

        body = b"".join(self._app(environ, start))
        headers = {name.lower(): value for name, value in answer["headers"].items()}
        if request.method == "HEAD":
            return str(answer["status"]), None if not body else "HEAD with a body"
        fault = verdict.fault_of_http(answer["status"], headers, body)
        return str(answer["status"]), fault


class LastInput:
    """The input in work, in a file that outlives a process which TensorFlow ends."""

    def __init__(self):
        self._file = os.environ.get("FUZZING_LAST_INPUT")
        path = self._file or os.path.join(tempfile.gettempdir(), os.devnull)
        self._number = os.open(path, os.O_RDWR | os.O_CREAT)

    def note(self, name: str, data: bytes) -> None:
        head = json.dumps([name[:200], len(data)]).encode() + b"\n"
        os.pwrite(self._number, head + data[: 2**20], 0)


class _Aborted(Exception):
    def __init__(self, code: grpc.StatusCode, text: str):
        super().__init__(text)
        self.code, self.text = code, text


class _Context:
    """What a handler knows of its call."""

    def __init__(self, seconds: float):
        self._seconds = seconds

    def time_remaining(self) -> float:
        return self._seconds

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return True

    def abort(self, code, details):
        raise _Aborted(code, details)


def _handlers(core: DataPlane):
    return {
        c.name: server._handler(c, core, _MESSAGE_BYTES) for c in server._calls(core)
    }


def _config(models: dict[str, Path]) -> ModelServerConfig:
    config = ModelServerConfig()
    for name, path in models.items():
        config.model_config_list.config.add(
            name=name, base_path=str(path), model_platform="tensorflow"
        )
    return config


def drawn(strategy: st.SearchStrategy, count: int, number: int, take: Callable) -> None:
    """Gives `count` values of a strategy to `take`, the same ones for a number."""

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(value):
        take(value)

    run()


@contextmanager
def serving(models: dict[str, Path], batching: Batching | None) -> Iterator[Server]:
    server = Server(models, batching)
    try:
        yield server
    finally:
        server.close()


def run(
    tally: verdict.Tally,
    models: dict[str, Path],
    folder: Path,
    inputs: int,
    number: int,
    batching: Batching | None,
) -> None:
    """Sends about `inputs` inputs, in phases.

    Args:
        tally: Takes the results.
        models: Base paths by name.
        folder: An empty one, under which reloads look for models.
        inputs: How many.
        number: Seed.
        batching: Whether there are batches.
    """
    (folder / "a" / "1").mkdir(parents=True, exist_ok=True)
    with serving(models, batching) as server:
        for name, part in _phases(server, folder, number):
            title = f"{name}{', batches' if batching else ''}"
            with tally.phase(title, os.getpid()):
                part(tally, inputs)


def _phases(server: Server, folder: Path, number: int):
    """Yields (name, run(tally, inputs of all phases)) of each."""
    rng = random.Random(number)
    seeds: dict[str, list[bytes]] = {name: [] for name in messages.REQUESTS}

    def call(tally, method, request):
        data = request.SerializeToString()
        result, fault = server.call(method, data)
        # Half of what is changed later was right, and half was not.
        if len(data) < 5000 and (result == "OK" or len(seeds[method]) < 100):
            seeds[method].append(data)
        tally.take(result, fault, (method, request))

    def structured(draw, share):
        def part(tally, inputs):
            count = int(inputs * share / len(server.signatures))
            for name, signatures in server.signatures.items():
                drawn(draw(name, signatures), count, number, lambda m: call(tally, *m))

        return part

    def changed(method):
        def part(tally, inputs):
            for _ in range(int(inputs * _MUTATED[method])):
                known = seeds[method] or [b""]
                data = rng.choice(known)
                if rng.randrange(2):
                    data = mutated(rng, data, known)
                else:
                    request = messages.REQUESTS[method].FromString(data)
                    altered(rng, request)
                    data = request.SerializeToString()
                tally.take(*server.call(method, data), (method, data))

        return part

    def predicts(name, signatures):
        return st.tuples(st.just("Predict"), messages.predicts(name, signatures))

    yield "Predict, drawn", structured(predicts, 0.025)
    yield (
        "Classify, Regress, MultiInference, drawn",
        structured(messages.inferences, 0.02),
    )
    questions = partial(messages.questions, folder=str(folder))
    yield "metadata, status, reload, drawn", structured(questions, 0.01)
    for method in messages.REQUESTS:
        yield f"{method}, changed", changed(method)
    yield "media, changed bytes", partial(_media, server, rng)
    yield "REST", partial(_rest, server, rng, number)


_CHANGED = 4  # drawing costs more than the server does
_MUTATED = {
    "Predict": 0.34,
    "Classify": 0.1,
    "Regress": 0.1,
    "MultiInference": 0.1,
    "GetModelMetadata": 0.04,
    "GetModelStatus": 0.04,
    "HandleReloadConfigRequest": 0.01,
}


def _media(server: Server, rng: random.Random, tally, inputs: int) -> None:
    """Sends pictures, sounds and vectors that were good once, in good requests."""
    kinds = messages.media()
    for _ in range(int(inputs * 0.06)):
        name = rng.choice(sorted(server.signatures))
        plain = sorted(s for s in server.signatures[name] if s[0] != "_")
        signature = "pixels" if "pixels" in plain else rng.choice(plain)
        request = messages.REQUESTS["Predict"]()
        request.model_spec.name, request.model_spec.signature_name = name, signature
        rows = rng.randint(1, 2)
        for alias in server.signatures[name][signature].inputs:
            proto = request.inputs[alias]
            proto.dtype = 7
            proto.tensor_shape.dim.add(size=rows)
            for _ in range(rows):
                proto.string_val.append(mutated(rng, rng.choice(kinds), kinds))
        data = request.SerializeToString()
        tally.take(*server.call("Predict", data), ("media", request))


def _rest(server: Server, rng: random.Random, number: int, tally, inputs: int) -> None:
    """Sends each request as it was drawn, and with changes of its body and target."""

    def take(request: web.WebRequest):
        tally.take(*server.ask(request), request)
        for _ in range(_CHANGED):
            body = mutated(rng, request.body, [request.body])
            target = request.target
            if not rng.randrange(8):
                target = mutated(rng, target.encode("latin-1"), []).decode("latin-1")
            other = replace(request, body=body, target=target)
            tally.take(*server.ask(other), other)

    count = int(inputs * 0.15 / len(server.signatures) / (1 + _CHANGED))
    for name, signatures in server.signatures.items():
        drawn(web.web_requests(name, signatures), count, number, take)
