"""TF Serving's configuration files in text protobuf: models, batching, TLS, metrics.

Source: TensorFlow Serving 2.16.1 (model_server_config.proto, monitoring_config.proto,
session_bundle_config.proto, ssl_config.proto, bundle_factory_util.h, server_core.cc)
and TensorFlow (shared_batch_scheduler.h), for the fields, defaults and checks.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import Message
from tensorflow_serving.config.model_server_config_pb2 import (
    ModelConfig,
    ModelServerConfig,
    ModelType,
)

from mmkeras.errors import UserError
from serving.server.errors import ServingError, failed_precondition, invalid_argument
from serving.text_proto import config_class, read_text_proto

S = TypeVar("S", "Batching", "SslConfig")

METRICS_PATH = "/monitoring/prometheus/metrics"
_PLATFORM = "tensorflow"
_LIST = "model_config_list"
# A URI, as in TensorFlow's io::ParseURI.
_URI = re.compile(r"[a-zA-Z][0-9a-zA-Z.]*://")

_MODELS_EXAMPLE = (
    'model_config_list { config { name: "m" base_path: "/models/m" '
    'model_platform: "tensorflow" } }'
)
_BATCHING_EXAMPLE = "max_batch_size { value: 32 } allowed_batch_sizes: 32"
_MONITORING_EXAMPLE = "prometheus_config { enable: true }"
_SSL_EXAMPLE = (
    r'server_key: "-----BEGIN PRIVATE KEY-----\n..." '
    r'server_cert: "-----BEGIN CERTIFICATE-----\n..." client_verify: false'
)
_MINIMUMS = {
    "max_batch_size": 1,
    "batch_timeout_micros": 0,
    "max_enqueued_batches": 1,
    "num_batch_threads": 1,
    "max_execution_batch_size": 1,
}


@dataclass(frozen=True, kw_only=True)
class Batching:
    """Settings of batching, with the names of TF Serving's BatchingParameters.

    Attributes:
        max_batch_size: Maximum rows of a request, and of a batch without splitting.
        batch_timeout_micros: Maximum time that a request waits for others.
        max_enqueued_batches: Queued batches before requests are refused.
        num_batch_threads: Batches that run at once.
        thread_pool_name: Label of the queue's metrics.
        allowed_batch_sizes: Sizes that batches are padded to, ascending; empty: any.
        pad_variable_length_inputs: Whether ragged inputs are padded.
        enable_large_batch_splitting: Whether a request may be split over batches.
        max_execution_batch_size: Maximum rows of a batch with splitting; by default,
            and without splitting, max_batch_size.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    thread_pool_name: str = "batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int | None = None

    def __post_init__(self):
        splits = self.enable_large_batch_splitting
        if not splits or self.max_execution_batch_size is None:
            object.__setattr__(self, "max_execution_batch_size", self.max_batch_size)
        if self.max_enqueued_batches == 0 and not splits:  # TF Serving uses 1
            object.__setattr__(self, "max_enqueued_batches", 1)
        for name, minimum in _MINIMUMS.items():
            if (value := getattr(self, name)) < minimum:
                raise UserError(f"{name} must be {minimum} or more, received {value}.")
        if self.max_execution_batch_size > self.max_batch_size:
            raise UserError(
                f"max_execution_batch_size must be at most max_batch_size, "
                f"{self.max_batch_size}, received {self.max_execution_batch_size}."
            )
        self._check_allowed()

    def _check_allowed(self):
        sizes = list(self.allowed_batch_sizes)
        if sizes != sorted({size for size in sizes if size > 0}):
            raise UserError(
                "allowed_batch_sizes must be positive and ascend, received "
                f"{', '.join(map(str, sizes))}."
            )
        if sizes and sizes[-1] != self.max_batch_size:
            raise UserError(
                "Last entry in allowed_batch_sizes must match max_batch_size; last "
                f"entry was {sizes[-1]}; expected {self.max_batch_size}."
            )


@dataclass(frozen=True, kw_only=True)
class SslConfig:
    """TLS settings: texts of PEM files, not their paths."""

    server_key: str = field(default="", repr=False)
    server_cert: str = ""
    custom_ca: str = ""
    client_verify: bool = False

    def __post_init__(self):
        for name in ("server_key", "server_cert", "custom_ca"):
            text = getattr(self, name)
            if "-----BEGIN " not in text and (text or name != "custom_ca"):
                value = "other text" if text else "nothing"  # it may be a secret
                raise UserError(
                    f"{name} must be the text of a PEM file, with a line "
                    f"'-----BEGIN ...', received {value}. It is not the file's path."
                )


def read_model_config(path: str | Path) -> ModelServerConfig:
    """Reads the file of --model-config-file.

    Raises:
        UserError: The file cannot be read, or `check_models` refuses the config.
    """
    config = read_text_proto(path, ModelServerConfig, _MODELS_EXAMPLE)
    try:
        check_models(config)
    except ServingError as error:
        raise UserError(
            f"The file '{path}' cannot be served: {error.message}. Example: "
            f"{_MODELS_EXAMPLE}"
        ) from None
    return config


def read_batching(path: str | Path) -> Batching:
    """Reads the file of --batching-parameters-file.

    Raises:
        UserError: The file cannot be read, or has an unknown or impossible setting.
    """
    message = read_text_proto(
        path, config_class("BatchingParameters"), _BATCHING_EXAMPLE
    )
    return _build(Batching, message, path)


def read_monitoring(path: str | Path) -> str | None:
    """Reads a monitoring file; returns the path of the metrics page, None: no page.

    Raises:
        UserError: The file cannot be read, or the path is invalid.
    """
    message = read_text_proto(
        path, config_class("MonitoringConfig"), _MONITORING_EXAMPLE
    )
    page = message.prometheus_config
    if page.path and not page.path.startswith("/"):
        raise UserError(
            f"The file '{path}': path must begin with '/', received '{page.path}'."
        )
    return (page.path or METRICS_PATH) if page.enable else None


def read_ssl(path: str | Path) -> SslConfig:
    """Reads the file of --ssl-config-file.

    Raises:
        UserError: The file cannot be read, or lacks the key or the certificate.
    """
    message = read_text_proto(
        path, config_class("SSLConfig"), _SSL_EXAMPLE, secret=True
    )
    return _build(SslConfig, message, path)


def _build(settings: type[S], message: Message, path: str | Path) -> S:
    """Returns the settings that the fields of a message set."""
    values = {field.name: value for field, value in message.ListFields()}
    for name, value in values.items():
        if isinstance(value, Message):  # a number that may be absent
            values[name] = value.value
        elif name == "allowed_batch_sizes":
            values[name] = tuple(value)
    try:
        return settings(**values)
    except UserError as error:
        raise UserError(f"The file '{path}': {error}") from None


def check_models(
    config: ModelServerConfig, serving: ModelServerConfig | None = None
) -> None:
    """Checks a config as TF Serving does, with its texts of errors.

    Args:
        config: New config; an empty one is valid.
        serving: Current config.

    Raises:
        ServingError: The kind of config differs from the current one; or a model has no
            name, a duplicate one, a relative path or an unsupported platform.
    """
    kind = config.WhichOneof("config")
    if serving is not None and serving.WhichOneof("config") and kind != _LIST:
        raise failed_precondition(
            "Cannot transition to requested config. It is only legal to transition "
            "from one ModelConfigList to another."
        )
    if kind == "custom_model_config":
        raise invalid_argument(
            "Missing custom_model_config_loader in ServerCore Options"
        )
    models, names = config.model_config_list.config, set[str]()
    for model in models:
        if not model.name:  # TF Serving loads it, but no request can name it
            raise invalid_argument("Expected every model in config list to have a name")
        if model.name in names:
            raise invalid_argument(
                f"Illegal to list model {model.name} multiple times in config list"
            )
        names.add(model.name)
    for model in models:
        if not (model.base_path.startswith("/") or _URI.match(model.base_path)):
            raise invalid_argument(
                f"Expected model {model.name} to have an absolute path or URI; got "
                f"base_path()={model.base_path}"
            )
    for model in models:
        _check_platform(model)


def _check_platform(model: ModelConfig) -> None:
    kind, platform = model.model_type, model.model_platform
    types = "ModelServerConfig::model_type (deprecated)"
    if kind and platform:
        text = f"Illegal setting both {types} and ModelServerConfig::model_platform."
    elif kind and kind != ModelType.TENSORFLOW:
        text = f"ModelServerConfig::model_type choice {kind} not supported."
    elif not kind and not platform:
        text = f"Illegal setting neither {types} nor ModelServerConfig::model_platform."
    elif not kind and platform != _PLATFORM:
        text = f"Model {model.name} requests unsupported platform {platform}"
    else:
        return
    raise invalid_argument(text)
