"""Reads the files of serving/deploy as their readers do."""

import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

DEPLOY = Path(__file__).parents[3] / "serving" / "deploy"
# Source: main.cc of TensorFlow Serving 2.16.1; those that a deployment may set.
FLAGS = {
    "port",
    "rest_api_port",
    "rest_api_num_threads",
    "rest_api_timeout_in_ms",
    "grpc_max_threads",
    "grpc_channel_arguments",
    "model_config_file",
    "model_config_file_poll_wait_seconds",
    "allow_version_labels_for_unavailable_models",
    "enable_batching",
    "batching_parameters_file",
    "monitoring_config_file",
    "ssl_config_file",
    "enable_grpc_healthcheck_service",
    "enable_model_warmup",
    "num_load_threads",
    "num_unload_threads",
    "tensorflow_intra_op_parallelism",
    "tensorflow_inter_op_parallelism",
}


def program(name, why):
    """Path of a program; without it a test is skipped, but never where CI is set."""
    found = shutil.which(name)
    if not found and os.environ.get("CI"):
        pytest.fail(f"no {name} here, {why}; nothing is skipped where CI is set")
    if not found:
        pytest.skip(f"no {name} here, {why}")
    return found


def documents(path):
    """All YAML documents of a file."""
    return [d for d in yaml.safe_load_all(path.read_text()) if d is not None]


def flags(arguments):
    """{name: value} of command-line flags, each of which TF Serving must know."""
    pairs = (argument.removeprefix("--").partition("=") for argument in arguments)
    found = {name: value for name, _, value in pairs}
    assert set(found) <= FLAGS, set(found) - FLAGS
    return found


def interpolated(content, variables):
    """Compose's own ${NAME:-default}, ${NAME:?message} and $$ in all strings."""
    if isinstance(content, dict):
        return {name: interpolated(value, variables) for name, value in content.items()}
    if isinstance(content, list):
        return [interpolated(value, variables) for value in content]
    if not isinstance(content, str):
        return content
    pattern = r"\$\$|\$\{(\w+)(:[-?])([^}]*)\}"
    assert "$" not in re.sub(pattern, "", content), f"no default: {content}"
    return re.sub(pattern, lambda match: _value(match, variables), content)


def _value(match, variables):
    if match[0] == "$$":
        return "$"
    if match[2] == ":?" and match[1] not in variables:
        raise KeyError(f"{match[1]}: {match[3]}")
    return variables.get(match[1], match[3])
