"""The gRPC services of TensorFlow Serving over the core."""

import logging
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from mmkeras.errors import UserError
from serving.server.configs import SslConfig
from serving.server.deadline import Deadline
from serving.server.engine.data_plane import DataPlane
from serving.server.engine.decompression import decompressed
from serving.server.engine.message_parsing import parse_message
from serving.server.errors import ServingError, deadline_exceeded, internal

_log = logging.getLogger(__name__)
_PACKAGE = "tensorflow.serving"
_SERVICES = ("PredictionService", "ModelService")
# For calls that need no model (health, status), when models have all they can take.
_SPARE_THREADS = 32
_MOST_PENDING = 100_000  # calls that gRPC holds before they reach Python
_NEVER_S = 1e9  # gRPC has 292 years for a client that sets no deadline


@dataclass(frozen=True)
class _Call:
    """A method of a service.

    Attributes:
        name: As it is called.
        service: Whose it is.
        request: Type of its requests.
        answer: answer(request, deadline) -> response.
        counted: Whether it is in the metrics of requests.
    """

    name: str
    service: str
    request: type[Message]
    answer: Callable[[Any, Deadline], Message]
    counted: bool = False


def _calls(core: DataPlane) -> list[_Call]:
    prediction, model = _SERVICES
    return [
        _Call("Predict", prediction, predict_pb2.PredictRequest, core.predict, True),
        _Call(
            "Classify",
            prediction,
            classification_pb2.ClassificationRequest,
            core.classify,
            True,
        ),
        _Call(
            "Regress",
            prediction,
            regression_pb2.RegressionRequest,
            core.regress,
            True,
        ),
        _Call(
            "MultiInference",
            prediction,
            inference_pb2.MultiInferenceRequest,
            core.multi_inference,
        ),
        _Call(
            "GetModelMetadata",
            prediction,
            get_model_metadata_pb2.GetModelMetadataRequest,
            lambda request, _: core.get_model_metadata(request),
        ),
        _Call(
            "GetModelStatus",
            model,
            get_model_status_pb2.GetModelStatusRequest,
            lambda request, _: core.get_model_status(request),
        ),
        _Call(
            "HandleReloadConfigRequest",
            model,
            model_management_pb2.ReloadConfigRequest,
            core.reload_config,
        ),
    ]


class GrpcServer:
    """Serves the core over gRPC.

    Attributes:
        port: The port that is open, also where 0 was asked for.
    """

    def __init__(
        self,
        core: DataPlane,
        host: str,
        port: int,
        *,
        threads: int,
        message_bytes: int,
        ssl: SslConfig | None = None,
    ):
        """Binds the port; `start` listens on it.

        Args:
            core: Answers.
            host: Name or address of this machine that clients see.
            port: Port; 0: any that is free.
            threads: Requests to models that are worked on at once.
            message_bytes: The largest request that is read.
            ssl: Keys and certificates of TLS; None: plain text.

        Raises:
            UserError: The port cannot be opened, or the keys cannot be used.
        """
        threads += _SPARE_THREADS
        self._server = grpc.server(
            ThreadPoolExecutor(threads, thread_name_prefix="grpc"),
            options=[
                ("grpc.max_receive_message_length", message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
                # gRPC would inflate all of a message before it looks at its length.
                ("grpc.per_message_decompression", 0),
                # Beyond these gRPC cancels calls at random, which tells a client
                # nothing; `maximum_concurrent_rpcs` refuses them with a code instead.
                ("grpc.server.max_pending_requests", _MOST_PENDING),
                ("grpc.server.max_pending_requests_hard_limit", _MOST_PENDING),
            ],
            maximum_concurrent_rpcs=threads,
        )
        for service in _SERVICES:
            handlers = {
                call.name: _handler(call, core, message_bytes)
                for call in _calls(core)
                if call.service == service
            }
            generic = grpc.method_handlers_generic_handler(
                f"{_PACKAGE}.{service}", handlers
            )
            self._server.add_generic_rpc_handlers([generic])
        self._health = _Health()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.port: int = self._bind(host, port, ssl)

    def start(self) -> None:
        """Opens the door, and says so to those who ask for health."""
        for service in ("", *_SERVICES):
            self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        self._server.start()

    def stop(self, drain_s: float) -> None:
        """Takes no new requests; those in work are answered within `drain_s`."""
        self._health.end()
        self._server.stop(drain_s).wait()

    def _bind(self, host: str, port: int, ssl: SslConfig | None) -> int:
        try:
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            if ssl is None:
                return self._server.add_insecure_port(address(host, port))
            credentials = grpc.ssl_server_credentials(
                [(ssl.server_key.encode(), ssl.server_cert.encode())],
                ssl.custom_ca.encode() or None,
                ssl.client_verify,
            )
            return self._server.add_secure_port(address(host, port), credentials)
        except OSError as error:
            raise UserError(
                f"--host '{host}' is no address: {error.strerror}. Give one of this "
                "machine, as 127.0.0.1."
            ) from None
        except RuntimeError:
            reason = "the keys of --ssl-config-file cannot be used, or " if ssl else ""
            raise UserError(
                f"The address {address(host, port)} cannot be opened: {reason}another "
                "program has it, or it is not one of this machine. Give another --port "
                "or --host."
            ) from None


def address(host: str, port: int) -> str:
    """Returns HOST:PORT, an address of IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Health(health.HealthServicer):
    """Health that does not hold the server open for those who watch it."""

    def __init__(self):
        super().__init__()
        self._watching: set[grpc.ServicerContext] = set()

    def Watch(self, request, context, *send):
        self._watching.add(context)
        context.add_callback(lambda: self._watching.discard(context))
        return super().Watch(request, context, *send)

    def end(self) -> None:
        """Says that nothing is served any more, and ends what watches."""
        self.enter_graceful_shutdown()
        for context in list(self._watching):
            context.cancel()


def _handler(call: _Call, core: DataPlane, most_bytes: int) -> grpc.RpcMethodHandler:
    """Takes the bytes of a request, as its type may not be what they are."""

    def handle(data: bytes, context: grpc.ServicerContext) -> Message:
        start_s, request = time.perf_counter(), call.request()
        deadline = Deadline(_left_s(context))
        context.add_callback(deadline.cancel)
        code, details = grpc.StatusCode.OK, ""
        try:
            if deadline.is_over:
                raise deadline_exceeded("Deadline Exceeded")
            with core.bytes.growing() as take:
                take(len(data))
                request = _parsed(call, decompressed(data, most_bytes, take))
                return call.answer(request, deadline)
        except ServingError as error:
            code, details = error.code, error.sent
        except Exception:
            _log.exception("%s failed", call.name)
            code, details = grpc.StatusCode.INTERNAL, "The server failed; see its log."
        finally:
            if call.counted:
                _count(core, call, request, code, time.perf_counter() - start_s)
        _abort(context, code, details)

    return grpc.unary_unary_rpc_method_handler(
        handle, response_serializer=lambda response: response.SerializeToString()
    )


def _left_s(context: grpc.ServicerContext) -> float | None:
    left_s = context.time_remaining()
    return None if left_s is None or left_s > _NEVER_S else left_s


def _parsed(call: _Call, data: bytes) -> Message:
    try:
        return parse_message(call.request, data)
    except DecodeError:
        raise internal(
            f"The request is no {call.request.DESCRIPTOR.full_name} message"
        ) from None


def _count(core: DataPlane, call: _Call, request, code, seconds: float) -> None:
    name = request.model_spec.name
    core.metrics.request_count.increment(model_name=name, status=code.name)
    if code is grpc.StatusCode.OK:
        core.metrics.request_latency.observe(
            1e6 * seconds, model_name=name, API=call.name, entrypoint="GRPC"
        )


def _abort(context: grpc.ServicerContext, code, details: str) -> NoReturn:
    context.abort(code, details)  # raises
