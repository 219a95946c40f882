"""Command line of the TF Serving-compatible server, `python -m serving.server`."""

import os
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from mmkeras.cli import Parser, run_program
from mmkeras.environment.tensorflow_import import import_tensorflow
from mmkeras.errors import UserError

_EXAMPLE = "--model mmkeras=runs/mine/export"
# Flag: default, minimum, maximum, help.
_NUMBERS = {
    "port": (8500, 0, 65535, "gRPC port; 0: any free port."),
    "rest-port": (8501, -1, 65535, "REST port; 0: any free port; -1: no REST."),
    "poll-seconds": (1.0, 0.01, 1e6, "Interval between checks for new versions."),
    "model-config-file-poll-wait-seconds": (
        0.0,
        0,
        1e6,
        "Interval between reads of the model config file; 0: it is read once.",
    ),
    "load-retries": (5, 0, 1e6, "Retries of a version that does not load."),
    "load-retry-seconds": (60.0, 0, 1e6, "Interval between these retries."),
    "max-in-flight": (256, 1, 10_000, "Maximum number of concurrent requests."),
    # protobuf's own limit
    "max-message-mib": (256, 1, 2047, "Maximum size of one request."),
    "max-in-flight-mib": (1024, 1, 1e6, "Maximum size of all concurrent requests."),
    "max-rows": (1000, 1, 1e9, "Maximum number of concurrent rows, without batching."),
    "rest-timeout-seconds": (30.0, 0.001, 1e6, "Maximum time of a REST request."),
    "drain-seconds": (30.0, 0, 1e6, "Time for running requests at shutdown."),
}


def main(argv: Sequence[str]) -> int:
    """Parses the command line and serves until a signal; returns the exit code."""
    parsed = build_parser().parse_args(argv)
    models = [_parse_model(flag) for flag in parsed.model or []]
    if bool(models) == bool(parsed.model_config_file):
        raise UserError(
            "One source of models is required: either --model, as in "
            f"{_EXAMPLE}, or --model-config-file FILE."
        )
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # an error is one line of ours
    _check(parsed)
    parsed.host = parsed.host.strip("[]")  # IPv6 addresses may have brackets
    import_tensorflow()
    from serving.server.server import serve

    return serve(parsed, models)


def build_parser() -> Parser:
    """Builds the parser of the command line."""
    parser = Parser(
        prog="python -m serving.server",
        description="Serve models over gRPC and REST, as TensorFlow Serving does.",
    )
    add = parser.add_argument
    add(
        "--model",
        action="append",
        metavar="NAME=BASE_PATH",
        help="Model name and the folder with its versions; repeat for more models.",
    )
    add("--model-config-file", metavar="FILE", help="Models, as text protobuf.")
    add("--host", default="127.0.0.1", help="Address to bind.")
    add("--grpc-socket-path", default="", metavar="PATH", help="UNIX socket of gRPC.")
    add(
        "--allow-version-labels-for-unavailable-models",
        action="store_true",
        help="Accept labels of versions that are not loaded yet.",
    )
    add("--batching-parameters-file", metavar="FILE", help="Settings of batching.")
    add(
        "--rest-cors",
        action="store_true",
        help="Let pages of other sites use the REST API (CORS).",
    )
    add("--monitoring", action="store_true", help="Serve a metrics page.")
    add("--monitoring-config-file", metavar="FILE", help="Settings of that page.")
    add("--ssl-config-file", metavar="FILE", help="TLS keys of gRPC.")
    for name, (default, _, _, text) in _NUMBERS.items():
        add(f"--{name}", type=type(default), default=default, help=text)
    return parser


def _check(parsed: Namespace) -> None:
    """Raises UserError for a number out of range, or a flag that would be ignored."""
    for name, (_, minimum, maximum, _) in _NUMBERS.items():
        value = getattr(parsed, name.replace("-", "_"))
        if not minimum <= value <= maximum:
            raise UserError(
                f"--{name} must be from {minimum:g} to {maximum:g}, received {value:g}."
            )
    if parsed.model_config_file_poll_wait_seconds and not parsed.model_config_file:
        raise UserError(
            "--model-config-file-poll-wait-seconds needs --model-config-file FILE, the "
            "file to read."
        )
    if parsed.max_in_flight_mib < parsed.max_message_mib:
        raise UserError(
            "--max-in-flight-mib must be at least --max-message-mib, "
            f"{parsed.max_message_mib}, received {parsed.max_in_flight_mib}."
        )
    if parsed.monitoring and parsed.monitoring_config_file:
        raise UserError("Use --monitoring or --monitoring-config-file, not both.")
    if parsed.rest_port < 0 and (parsed.monitoring or parsed.monitoring_config_file):
        raise UserError(
            "The metrics page needs the REST port, which --rest-port -1 switches off."
        )


def _parse_model(flag: str) -> tuple[str, str]:
    """Returns the model name and base path of `NAME=BASE_PATH`."""
    name, separator, path = flag.partition("=")
    if not (name and separator and path):
        raise UserError(f"--model needs NAME=BASE_PATH, received '{flag}': {_EXAMPLE}.")
    if "://" in path:  # a bucket
        return name, path
    base = Path(path).absolute()
    if (base / "saved_model.pb").is_file():
        raise UserError(
            f"--model {name}={path} is one version; use its parent folder: "
            f"--model {name}={base.parent}."
        )
    if not base.is_dir():
        raise UserError(f"--model {name}: the folder '{path}' does not exist.")
    if (base / "export").is_dir():
        raise UserError(
            f"--model {name}={path} is a run folder; use its exports: "
            f"--model {name}={base / 'export'}."
        )
    return name, str(base)


def run() -> None:
    """Entry point of the console script `mmkeras-serve`."""
    run_program(main)


if __name__ == "__main__":
    run()
