"""Server process: loads the models, serves gRPC and REST, drains at a signal."""

import ctypes
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from mmkeras.errors import UserError
from serving.server import configs
from serving.server.engine.admission import WeightedSemaphore
from serving.server.engine.batching import BatchScheduler
from serving.server.engine.data_plane import DataPlane, Limits
from serving.server.engine.servable import Servable
from serving.server.engine.warmup import warm_up
from serving.server.errors import ServingError
from serving.server.grpc.addresses import address
from serving.server.grpc.server import GrpcServer
from serving.server.metrics import Metrics
from serving.server.models.manager import Manager
from serving.server.rest.app import RestApp
from serving.server.rest.server import RestServer

# M_MMAP_THRESHOLD: freed blocks of this size go back to the system at once.
_RETURN_LARGE_BLOCKS = -3, 2**22
_SIGNAL_POLL_S = 0.5  # interval at which Python can run signal handlers


def serve(flags: Any, models: Iterable[tuple[str, str]]) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code.

    Args:
        flags: Parsed flags of `serving.server.__main__`.
        models: Names and base paths; empty: the config file's.

    Raises:
        UserError: A file, a port or a model cannot be used.
    """
    logging.basicConfig(
        format="%(message)s", level=logging.WARNING, handlers=[_LogHandler(sys.stderr)]
    )
    stop, server, done = _SignalWaiter(), None, True
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)  # open connections
    with suppress(ValueError, OSError):  # macOS has another maximum
        resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    if set_option := getattr(ctypes.CDLL(None), "mallopt", None):  # glibc only
        set_option(*_RETURN_LARGE_BLOCKS)
    try:
        server = Server(flags)
        server.open(_build_config(flags, models))
        stop.wait()
        log("Draining: no new requests are taken.")
    except _StoppedEarly:
        log("Stopped before the models were loaded.")
    finally:
        if server:
            done = server.close()
    if done:
        log("Stopped.")
        return 0
    log("Stopped with requests in work, which lose their answers.")
    # The interpreter would wait for the threads, which may run for long.
    os._exit(1)


def log(line: str) -> None:
    """Prints a line without buffering.

    One write per line: `print` writes the line and its end apart, and lines of several
    threads would mix.
    """
    with _output_lock:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


_output_lock = threading.RLock()


class _LogHandler(logging.StreamHandler):
    """Handler whose records do not mix with the lines of `log`, as in one pipe."""

    def createLock(self) -> None:
        self.lock = _output_lock


class Server:
    """Models with their gRPC and REST servers."""

    def __init__(self, flags: Any):
        """Reads the files that the flags name, and reserves the ports.

        Raises:
            UserError: A file or a port cannot be used.
        """
        self._flags = flags
        self._limits = Limits(
            in_flight=flags.max_in_flight,
            in_flight_bytes=flags.max_in_flight_mib * 2**20,
            message_bytes=flags.max_message_mib * 2**20,
            rows=flags.max_rows,
        )
        self._metrics = Metrics()
        self._row_limit = WeightedSemaphore(self._limits.rows, "rows")
        ssl = flags.ssl_config_file and configs.read_ssl(flags.ssl_config_file)
        batching = flags.batching_parameters_file
        batching = configs.read_batching(batching) if batching else None
        self._scheduler = batching and self._build_scheduler(batching)
        self._manager = Manager(
            self._load,
            poll_s=flags.poll_seconds,
            load_retries=flags.load_retries,
            retry_s=flags.load_retry_seconds,
            allow_unavailable_labels=flags.allow_version_labels_for_unavailable_models,
            log=log,
        )
        data_plane = DataPlane(self._manager, self._metrics, self._limits)
        self._grpc = GrpcServer(
            data_plane,
            flags.host,
            flags.port,
            threads=self._limits.in_flight,
            message_bytes=self._limits.message_bytes,
            ssl=ssl or None,
            socket_path=flags.grpc_socket_path,
        )
        self._rest = (
            self._build_rest_server(data_plane) if flags.rest_port >= 0 else None
        )

    def open(self, config: ModelServerConfig) -> None:
        """Loads the models, then opens the ports.

        Raises:
            UserError: A model cannot be served, or a port cannot be opened any more.
        """
        start_s = time.monotonic()
        try:
            self._manager.apply(config)
        except ServingError as error:
            raise UserError(error.message) from None
        flags = self._flags
        if flags.model_config_file_poll_wait_seconds:
            self._manager.watch_config_file(
                flags.model_config_file, flags.model_config_file_poll_wait_seconds
            )
        self._grpc.start()
        log(f"gRPC: {address(self._flags.host, self._grpc.port)}")
        if self._flags.grpc_socket_path:
            log(f"gRPC: unix:{self._flags.grpc_socket_path}")
        if self._rest:
            self._rest.start()
            log(f"REST: {address(self._flags.host, self._rest.port)}")
        listed = ", ".join(
            f"{name} {'/'.join(map(str, versions))}"
            for name, versions in self._manager.available().items()
        )
        log(f"Serving: {listed} (after {time.monotonic() - start_s:.1f} s)")

    def close(self) -> bool:
        """Finishes the running requests and closes all.

        Returns whether all accepted requests have their answers.
        """
        drain_s = self._flags.drain_seconds
        end_s = time.monotonic() + drain_s
        servers = [server for server in (self._grpc, self._rest) if server]
        with ThreadPoolExecutor(len(servers)) as pool:
            done = list(pool.map(lambda server: server.stop(drain_s), servers))
        done.append(self._manager.close(max(0.0, end_s - time.monotonic())))
        if done[-1] and self._scheduler:
            self._scheduler.close()
        return False not in done

    def _build_scheduler(self, batching: configs.Batching) -> BatchScheduler:
        observe = partial(
            self._metrics.queuing_latency.observe,
            thread_pool_name=batching.thread_pool_name,
        )
        return BatchScheduler(
            batching, observe, self._metrics.wrapped_run_count.increment
        )

    def _build_rest_server(self, data_plane: DataPlane) -> RestServer:
        flags, limits = self._flags, self._limits
        path = configs.METRICS_PATH if flags.monitoring else None
        if flags.monitoring_config_file:
            path = configs.read_monitoring(flags.monitoring_config_file)
        app = RestApp(
            data_plane,
            limits,
            timeout_s=flags.rest_timeout_seconds,
            metrics_path=path,
        )
        return RestServer(app, flags.host, flags.rest_port, cors=flags.rest_cors)

    def _load(self, name: str, version: int, path: str | os.PathLike) -> Servable:
        """Loads a version and warms it up."""
        path = os.fspath(path)
        self._metrics.request_count.add_model(name)
        servable = Servable(
            name,
            version,
            path,
            semaphore=self._row_limit,
            scheduler=self._scheduler,
            observe=lambda api, us: self._metrics.runtime_latency.observe(
                us, model_name=name, API=api, runtime="TF1"
            ),
        )
        start_s, status = time.perf_counter(), "UNKNOWN"
        try:
            warm_up(servable, path, self._limits.message_bytes)
            status = "OK"
        except BaseException as error:
            status = error.code.name if isinstance(error, ServingError) else status
            servable.close()
            raise
        finally:
            self._metrics.model_warmup_latency.observe(
                1e6 * (time.perf_counter() - start_s), model_path=path, status=status
            )
        return servable


def _build_config(flags: Any, models: Iterable[tuple[str, str]]) -> ModelServerConfig:
    if flags.model_config_file:
        return configs.read_model_config(flags.model_config_file)
    config = ModelServerConfig()
    for name, path in models:
        config.model_config_list.config.add(
            name=name, base_path=path, model_platform="tensorflow"
        )
    return config


class _StoppedEarly(Exception):
    """Signal before the server had started to serve."""


class _SignalWaiter:
    """Handler of SIGTERM and SIGINT; a second signal ends the process at once."""

    def __init__(self):
        self._event, self._waits = threading.Event(), False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle_signal)

    def wait(self) -> None:
        """Waits for the first signal."""
        self._waits = True
        # A signal just before a wait, or in another thread, is handled after it.
        while not self._event.wait(_SIGNAL_POLL_S):
            pass

    def _handle_signal(self, number: int, _) -> None:
        if self._event.is_set():
            os._exit(128 + number)
        self._event.set()
        if not self._waits:
            raise _StoppedEarly
