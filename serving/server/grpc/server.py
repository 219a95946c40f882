"""gRPC server with TensorFlow Serving's services and the health service."""

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
from serving.server.engine.decompression import decompress_message
from serving.server.engine.message_parsing import parse_message
from serving.server.errors import ServingError, deadline_exceeded, internal

_log = logging.getLogger(__name__)
_PACKAGE = "tensorflow.serving"
_SERVICES = ("PredictionService", "ModelService")
# Threads for calls without a model (health, status) while all others run models.
_SPARE_THREADS = 32
_MAX_PENDING = 100_000  # calls that gRPC holds before they reach Python
_NO_DEADLINE_S = 1e9  # gRPC reports 292 years for a client without a deadline


@dataclass(frozen=True)
class Call:
    """Method of a service.

    Attributes:
        name: Method name.
        service: Service name.
        request: Type of the requests.
        run: run(request, deadline) -> response.
        counted: Whether the request metrics count it.
    """

    name: str
    service: str
    request: type[Message]
    run: Callable[[Any, Deadline], Message]
    counted: bool = False


def build_calls(data_plane: DataPlane) -> list[Call]:
    prediction, model = _SERVICES
    return [
        Call(
            "Predict", prediction, predict_pb2.PredictRequest, data_plane.predict, True
        ),
        Call(
            "Classify",
            prediction,
            classification_pb2.ClassificationRequest,
            data_plane.classify,
            True,
        ),
        Call(
            "Regress",
            prediction,
            regression_pb2.RegressionRequest,
            data_plane.regress,
            True,
        ),
        Call(
            "MultiInference",
            prediction,
            inference_pb2.MultiInferenceRequest,
            data_plane.multi_inference,
        ),
        Call(
            "GetModelMetadata",
            prediction,
            get_model_metadata_pb2.GetModelMetadataRequest,
            lambda request, _: data_plane.get_model_metadata(request),
        ),
        Call(
            "GetModelStatus",
            model,
            get_model_status_pb2.GetModelStatusRequest,
            lambda request, _: data_plane.get_model_status(request),
        ),
        Call(
            "HandleReloadConfigRequest",
            model,
            model_management_pb2.ReloadConfigRequest,
            data_plane.reload_config,
        ),
    ]


class GrpcServer:
    """gRPC server of a data plane; `port` is the bound port."""

    def __init__(
        self,
        data_plane: DataPlane,
        host: str,
        port: int,
        *,
        threads: int,
        message_bytes: int,
        ssl: SslConfig | None = None,
    ):
        """Binds the port; `start` listens on it.

        Args:
            data_plane: Data plane that runs the requests.
            host: Address to bind.
            port: Port; 0: any free port.
            threads: Requests to models that run at once.
            message_bytes: Maximum size of a request.
            ssl: TLS keys and certificates; None: no TLS.

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
                # gRPC would decompress a whole message before it checks the length.
                ("grpc.per_message_decompression", 0),
                # Above these gRPC cancels calls at random, without a useful code;
                # `maximum_concurrent_rpcs` rejects them with a code instead.
                ("grpc.server.max_pending_requests", _MAX_PENDING),
                ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING),
            ],
            maximum_concurrent_rpcs=threads,
        )
        for service in _SERVICES:
            handlers = {
                call.name: build_handler(call, data_plane, message_bytes)
                for call in build_calls(data_plane)
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
        """Starts to serve and reports it in the health service."""
        for service in ("", *_SERVICES):
            self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        self._server.start()

    def stop(self, drain_s: float) -> None:
        """Rejects new requests; running ones have `drain_s` to finish."""
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
                f"--host '{host}' is no address: {error.strerror}. Use an address of "
                "this machine, as 127.0.0.1."
            ) from None
        except RuntimeError:
            reason = "the keys of --ssl-config-file cannot be used, or " if ssl else ""
            raise UserError(
                f"The address {address(host, port)} cannot be opened: {reason}another "
                "program has it, or it is not one of this machine. Choose another "
                "--port or --host."
            ) from None


def address(host: str, port: int) -> str:
    """Returns HOST:PORT, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Health(health.HealthServicer):
    """Health service whose watchers do not delay the shutdown."""

    def __init__(self):
        super().__init__()
        self._watching: set[grpc.ServicerContext] = set()

    def Watch(self, request, context, *send):
        self._watching.add(context)
        context.add_callback(lambda: self._watching.discard(context))
        return super().Watch(request, context, *send)

    def end(self) -> None:
        """Reports NOT_SERVING and ends the watchers' calls."""
        self.enter_graceful_shutdown()
        for context in list(self._watching):
            context.cancel()


def build_handler(
    call: Call, data_plane: DataPlane, max_bytes: int
) -> grpc.RpcMethodHandler:
    """Builds a handler of raw bytes, which parses and counts the request."""

    def handle(data: bytes, context: grpc.ServicerContext) -> Message:
        start_s, request = time.perf_counter(), call.request()
        deadline = Deadline(_remaining_s(context))
        context.add_callback(deadline.cancel)
        code, details = grpc.StatusCode.OK, ""
        try:
            if deadline.is_over:
                raise deadline_exceeded("Deadline Exceeded")
            with data_plane.bytes.acquire_incrementally() as take:
                take(len(data))
                request = _parse(call, decompress_message(data, max_bytes, take))
                return call.run(request, deadline)
        except ServingError as error:
            code, details = error.code, error.truncated_message
        except Exception:
            _log.exception("%s failed", call.name)
            code, details = grpc.StatusCode.INTERNAL, "The server failed; see its log."
        finally:
            if call.counted:
                _count(data_plane, call, request, code, time.perf_counter() - start_s)
        _abort(context, code, details)

    return grpc.unary_unary_rpc_method_handler(
        handle, response_serializer=lambda response: response.SerializeToString()
    )


def _remaining_s(context: grpc.ServicerContext) -> float | None:
    remaining_s = context.time_remaining()
    return None if remaining_s is None or remaining_s > _NO_DEADLINE_S else remaining_s


def _parse(call: Call, data: bytes) -> Message:
    try:
        return parse_message(call.request, data)
    except DecodeError:
        raise internal(
            f"The request is no {call.request.DESCRIPTOR.full_name} message"
        ) from None


def _count(data_plane: DataPlane, call: Call, request, code, seconds: float) -> None:
    name = request.model_spec.name
    data_plane.metrics.request_count.increment(model_name=name, status=code.name)
    if code is grpc.StatusCode.OK:
        data_plane.metrics.request_latency.observe(
            1e6 * seconds, model_name=name, API=call.name, entrypoint="GRPC"
        )


def _abort(context: grpc.ServicerContext, code, details: str) -> NoReturn:
    context.abort(code, details)  # raises
