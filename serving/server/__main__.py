"""`python -m serving.server`: models of this machine behind gRPC and REST."""

import os
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from mmkeras.cli import Parser, run_program
from mmkeras.environment.tensorflow_import import import_tensorflow
from mmkeras.errors import UserError

_EXAMPLE = "--model mmkeras=runs/mine/export"
# Flag: default, least, most, help.
_NUMBERS = {
    "port": (8500, 0, 65535, "Port of gRPC; 0: any that is free."),
    "rest-port": (8501, -1, 65535, "Port of REST; 0: any that is free; -1: no REST."),
    "poll-seconds": (1.0, 0.01, 1e6, "Time between two looks for versions."),
    "load-retries": (
        5,
        0,
        1e6,
        "How often what does not load is tried again.",
    ),
    "load-retry-seconds": (60.0, 0, 1e6, "Time between two such tries."),
    "max-in-flight": (256, 1, 10_000, "Requests to models at once."),
    "max-message-mib": (256, 1, 2047, "Size of the largest request."),  # protobuf's own
    "max-in-flight-mib": (1024, 1, 1e6, "Size of all requests at once."),
    "max-rows": (1000, 1, 1e9, "Rows that run at once where there is no batching."),
    "rest-timeout-seconds": (30.0, 0.001, 1e6, "How long a REST request may take."),
    "drain-seconds": (30.0, 0, 1e6, "Time for what is in work when a signal comes."),
}


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
    _check(parsed)
    parsed.host = parsed.host.strip("[]")  # as addresses of IPv6 are written
    import_tensorflow()
    from serving.server.server import serve

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
    add(
        "--allow-version-labels-for-unavailable-models",
        action="store_true",
        help="Take labels of versions that are not loaded yet.",
    )
    add(
        "--batching-parameters-file",
        metavar="FILE",
        help="How requests are merged.",
    )
    add("--monitoring", action="store_true", help="Opens a metrics page.")
    add("--monitoring-config-file", metavar="FILE", help="Says where that page is.")
    add("--ssl-config-file", metavar="FILE", help="Keys of TLS for gRPC.")
    for name, (default, _, _, text) in _NUMBERS.items():
        add(f"--{name}", type=type(default), default=default, help=text)
    return parser


def _check(parsed: Namespace) -> None:
    """Refuses numbers that no server can have, and flags that would be ignored."""
    for name, (_, least, most, _) in _NUMBERS.items():
        value = getattr(parsed, name.replace("-", "_"))
        if not least <= value <= most:
            raise UserError(
                f"--{name} must be from {least:g} to {most:g}, received {value:g}."
            )
    if parsed.max_in_flight_mib < parsed.max_message_mib:
        raise UserError(
            "--max-in-flight-mib must be at least --max-message-mib, "
            f"{parsed.max_message_mib}, received {parsed.max_in_flight_mib}."
        )
    if parsed.monitoring and parsed.monitoring_config_file:
        raise UserError("Give --monitoring or --monitoring-config-file, not both.")
    if parsed.rest_port < 0 and (parsed.monitoring or parsed.monitoring_config_file):
        raise UserError(
            "The metrics page is on REST's port, which --rest-port -1 switches off."
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


def run() -> None:
    """Entry point of the console script `mmkeras-serve`."""
    run_program(main)


if __name__ == "__main__":
    run()
