"""Files of serving/deploy, read as their programs read them."""

import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

DEPLOY = Path(__file__).parents[3] / "serving" / "deploy"
# Source: main.cc of TensorFlow Serving 2.16.1; flags that a deployment may set.
FLAGS = {
    *("port", "rest_api_port", "rest_api_num_threads", "rest_api_timeout_in_ms"),
    *("grpc_max_threads", "grpc_channel_arguments", "enable_grpc_healthcheck_service"),
    *("model_config_file", "model_config_file_poll_wait_seconds", "ssl_config_file"),
    *("allow_version_labels_for_unavailable_models", "enable_model_warmup"),
    *("enable_batching", "batching_parameters_file", "monitoring_config_file"),
    *("num_load_threads", "num_unload_threads"),
    *("tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism"),
}


def find_program(name, purpose):
    """Returns the path of a program; without it skips the test, or fails in CI."""
    path = shutil.which(name)
    if not path:
        stop = pytest.fail if os.environ.get("CI") else pytest.skip
        stop(f"There is no program {name}, {purpose}.")
    return path


def documents(path):
    """Returns all YAML documents of a file."""
    return [d for d in yaml.safe_load_all(path.read_text()) if d is not None]


def flags(arguments):
    """Returns {name: value} of flags; TF Serving must know each."""
    pairs = (argument.removeprefix("--").partition("=") for argument in arguments)
    values = {name: value for name, _, value in pairs}
    assert set(values) <= FLAGS, set(values) - FLAGS
    return values


def interpolate(content, variables):
    """Replaces ${NAME:-default}, ${NAME:?message} and $$ in all strings, as Compose."""
    if isinstance(content, dict):
        return {name: interpolate(value, variables) for name, value in content.items()}
    if isinstance(content, list):
        return [interpolate(value, variables) for value in content]
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
