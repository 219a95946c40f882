"""`python -m serving.server`: models of this machine behind gRPC and REST."""

import os
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace

from mmkeras.cli import Parser, run_program
from mmkeras.errors import UserError

_EXAMPLE = "--model mmkeras=runs/mine/export"
_BOUNDS = [
    ("port", 0, 65535),
    ("rest_port", -1, 65535),
    ("poll_seconds", 0.01, 1e6),
    ("load_retries", 0, 1e6),
    ("load_retry_seconds", 0, 1e6),
    ("max_in_flight", 1, 10_000),
    ("max_message_mib", 1, 2047),  # of a protobuf message
    ("max_in_flight_mib", 1, 1e6),
    ("max_rows", 1, 1e9),
    ("rest_timeout_seconds", 0.001, 1e6),
    ("drain_seconds", 0, 1e6),
]


def main(argv: Sequence[str]) -> int:
    """Parses the command line and serves until a signal; returns the exit code."""
    parser = _parser()
    parsed = parser.parse_args(argv)
    models = [_model(given) for given in parsed.model or []]
    if bool(models) == bool(parsed.model_config_file):
        raise UserError(
            f"Say what to serve: either {_EXAMPLE}, or --model-config-file FILE."
        )
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # errors are said in one line
    _check_numbers(parsed)
    from serving.server.program import serve

    return serve(parsed, models)


def _parser() -> Parser:
    parser = Parser(
        prog="python -m serving.server",
        description="Serve models of this machine, as TensorFlow Serving does.",
    )
    add = parser.add_argument
    add(
        "--model",
        action="append",
        metavar="NAME=BASE_PATH",
        help="A model and the folder with its versions; may be given several times.",
    )
    add("--model-config-file", metavar="FILE", help="Models, as text protobuf.")
    add("--host", default="127.0.0.1", help="Address that clients see.")
    add("--port", type=int, default=8500, help="Of gRPC; 0: any that is free.")
    add("--rest-port", type=int, default=8501, help="Of REST; 0: any; -1: no REST.")
    add("--batching-parameters-file", metavar="FILE", help="Merge requests, so.")
    add("--monitoring", action="store_true", help="Metrics page for Prometheus.")
    add("--monitoring-config-file", metavar="FILE", help="The same, with its path.")
    add("--ssl-config-file", metavar="FILE", help="Keys of TLS for gRPC.")
    add("--poll-seconds", type=float, default=1.0, help="Between looks for versions.")
    add("--load-retries", type=int, default=5, help="Of a version that did not load.")
    add("--load-retry-seconds", type=float, default=60.0, help="Between two of them.")
    add("--max-in-flight", type=int, default=256, help="Requests at once.")
    add("--max-message-mib", type=int, default=256, help="Size of a request.")
    add("--max-in-flight-mib", type=int, default=1024, help="Of all requests at once.")
    add("--max-rows", type=int, default=1000, help="That run at once, if not batched.")
    add("--rest-timeout-seconds", type=float, default=30.0, help="Of a REST request.")
    add("--drain-seconds", type=float, default=30.0, help="For what is in work at end.")
    return parser


def _check_numbers(parsed: Namespace) -> None:
    """Refuses numbers that no server can have."""
    for name, least, most in _BOUNDS:
        value = getattr(parsed, name)
        if not least <= value <= most:
            raise UserError(
                f"--{name.replace('_', '-')} must be from {least:g} to {most:g}, "
                f"received {value:g}."
            )


def _model(given: str) -> tuple[str, str]:
    """Returns name and base path of `NAME=BASE_PATH`."""
    name, separator, path = given.partition("=")
    if not (name and separator and path):
        raise UserError(
            f"--model needs NAME=BASE_PATH, received '{given}': {_EXAMPLE}."
        )
    if "://" in path:  # a bucket
        return name, path
    base = Path(path).absolute()
    if (base / "saved_model.pb").is_file():
        raise UserError(
            f"--model {name}={path} is one version; give the folder around it: "
            f"--model {name}={base.parent}."
        )
    if not base.is_dir():
        raise UserError(f"--model {name}: there is no folder '{path}'.")
    if (base / "export").is_dir():
        raise UserError(
            f"--model {name}={path} is a run folder; give its exports: "
            f"--model {name}={base / 'export'}."
        )
    return name, str(base)


if __name__ == "__main__":
    run_program(main)
