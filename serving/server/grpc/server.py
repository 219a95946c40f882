"""gRPC server with TensorFlow Serving's services and the health service."""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.regression_pb2 import RegressionRequest

from serving.server.configs import SslConfig
from serving.server.deadline import Deadline
from serving.server.engine.data_plane import DataPlane
from serving.server.engine.message_parsing import parse_message
from serving.server.errors import ServingError, deadline_exceeded, internal
from serving.server.grpc.addresses import (
    address,
    address_error,
    build_credentials,
    check_socket_path,
    reserve_port,
)
from serving.server.grpc.arrivals import ArrivalGate

_log = logging.getLogger(__name__)
_PACKAGE = "tensorflow.serving"
_SERVICES = ("PredictionService", "ModelService")
# Threads for calls without a model (health, status) while all others run models.
_SPARE_THREADS = 32
_MAX_PENDING = 100_000  # calls that gRPC holds before they reach Python
_MIN_DRAIN_S = 0.1  # an idle server stops within this time
_GRACE_S = 60.0  # time after which gRPC would cancel calls itself
_RESPONSE_COPIES = 2  # the message, and its bytes
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


def build_calls(plane: DataPlane) -> list[Call]:
    """Returns the methods of all services."""
    prediction, model = _SERVICES
    return [
        Call("Predict", prediction, PredictRequest, plane.predict, True),
        Call("Classify", prediction, ClassificationRequest, plane.classify, True),
        Call("Regress", prediction, RegressionRequest, plane.regress, True),
        Call(
            "MultiInference", prediction, MultiInferenceRequest, plane.multi_inference
        ),
        Call(
            "GetModelMetadata",
            prediction,
            GetModelMetadataRequest,
            lambda request, _: plane.get_model_metadata(request),
        ),
        Call(
            "GetModelStatus",
            model,
            GetModelStatusRequest,
            lambda request, _: plane.get_model_status(request),
        ),
        Call(
            "HandleReloadConfigRequest", model, ReloadConfigRequest, plane.reload_config
        ),
    ]


class GrpcServer:
    """gRPC server of a data plane.

    Attributes:
        port: Reserved or open port.
    """

    def __init__(
        self,
        data_plane: DataPlane,
        host: str,
        port: int,
        *,
        threads: int,
        message_bytes: int,
        ssl: SslConfig | None = None,
        socket_path: str = "",
    ):
        """Reserves the port, which refuses connections until `start`.

        Args:
            data_plane: Data plane that runs the requests.
            host: Address to bind.
            port: Port; 0: any free port.
            threads: Requests to models that run at once.
            message_bytes: Maximum size of a request.
            ssl: TLS keys and certificates; None: no TLS.
            socket_path: Path of a UNIX socket that is served too; empty: none.

        Raises:
            UserError: The port or the socket cannot be opened, or the keys cannot be
                used.
        """
        self._gate = gate = ArrivalGate(data_plane.bytes, message_bytes, threads)
        threads += gate.max_waiting + _SPARE_THREADS
        self._server = _build_server(threads, message_bytes)
        for service in _SERVICES:
            handlers = {
                call.name: build_handler(call, data_plane, gate)
                for call in build_calls(data_plane)
                if call.service == service
            }
            generic = grpc.method_handlers_generic_handler(
                f"{_PACKAGE}.{service}", handlers
            )
            self._server.add_generic_rpc_handlers([generic])
        self._health = _Health()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._credentials = ssl and build_credentials(ssl)
        self._socket = check_socket_path(socket_path) if socket_path else None
        self._host, self._reserved = host, reserve_port(host, port)
        self.port: int = self._reserved.getsockname()[1]

    def start(self) -> None:
        """Opens the addresses, serves, and reports it in the health service.

        Raises:
            UserError: An address cannot be opened any more.
        """
        for service in ("", *_SERVICES):
            self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        self._reserved.close()
        self._open(address(self._host, self.port))
        if self._socket:
            self._open(self._socket)
        self._gate.start()
        self._server.start()

    def stop(self, drain_s: float) -> bool:
        """Rejects new requests; running ones have `drain_s` to finish.

        Returns whether all accepted requests have their answers.
        """
        self._reserved.close()
        self._health.end()
        # All accepted calls have ended then, also those that wait, arrive or are sent.
        stopped = self._server.stop(drain_s + _GRACE_S)
        done = stopped.wait(max(drain_s, _MIN_DRAIN_S))
        self._gate.stop()
        self._server.stop(None)  # cancels what is left, and removes the UNIX socket
        return done

    def _open(self, target: str) -> None:
        try:
            if self._credentials is None:
                self._server.add_insecure_port(target)
            else:
                self._server.add_secure_port(target, self._credentials)
        except RuntimeError:
            raise address_error(target, "another program has it") from None


def _build_server(threads: int, message_bytes: int) -> grpc.Server:
    return grpc.server(
        ThreadPoolExecutor(threads, thread_name_prefix="grpc"),
        options=[
            ("grpc.max_receive_message_length", message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            # With it, up to 4 MiB per connection arrive before a message is read.
            ("grpc.http2.bdp_probe", 0),
            # gRPC would decompress a whole message before it checks the length.
            ("grpc.per_message_decompression", 0),
            # Above these gRPC cancels calls at random, without a useful code;
            # `maximum_concurrent_rpcs` rejects them with a code instead.
            ("grpc.server.max_pending_requests", _MAX_PENDING),
            ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING),
        ],
        maximum_concurrent_rpcs=threads,
    )


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
    call: Call, data_plane: DataPlane, gate: ArrivalGate
) -> grpc.RpcMethodHandler:
    """Builds a handler that reads raw bytes, and parses and counts the request.

    It has the type of a client stream, so that it decides when the message is read.
    """

    def handle(messages: Iterator[bytes], context: grpc.ServicerContext) -> Message:
        start_s, request = time.perf_counter(), call.request()
        deadline = Deadline(_remaining_s(context))
        context.add_callback(deadline.cancel)
        code, details, counted = grpc.StatusCode.OK, "", call.counted
        memory, is_held = data_plane.bytes.acquire_incrementally(), False
        try:
            if deadline.is_over:
                raise deadline_exceeded("Deadline Exceeded")
            data = gate.read(messages, memory, deadline, context.cancel)
            request = _parse(call, data)
            del data
            response = call.run(request, deadline)
            memory.resize(_RESPONSE_COPIES * response.ByteSize())
            # Until the client has read it, or has left.
            is_held = context.add_callback(partial(memory.resize, 0))
            return response
        except ServingError as error:
            code, details = error.code, error.truncated_message
        except grpc.RpcError:  # the client has left before its message arrived
            counted = False
            raise
        except Exception:
            _log.exception("%s failed", call.name)
            code, details = grpc.StatusCode.INTERNAL, "The server failed; see its log."
        finally:
            if not is_held:
                memory.resize(0)
            if counted:
                model, metrics = request.model_spec.name, data_plane.metrics
                metrics.request_count.increment(model_name=model, status=code.name)
                if code is grpc.StatusCode.OK:
                    us = 1e6 * (time.perf_counter() - start_s)
                    labels = {"API": call.name, "entrypoint": "GRPC"}
                    metrics.request_latency.observe(us, model_name=model, **labels)
        context.abort(code, details)

    return grpc.stream_unary_rpc_method_handler(
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
