"""Program `python -m serving.client`: predicts one row or a table by a model server."""

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TextIO

from mmkeras.cli import Parser, print_warnings, run_program
from mmkeras.errors import Examples, UserError, did_you_mean, warn_of_faults
from mmkeras.schema import MODALITIES

_SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}  # of formats


def main(argv: Sequence[str]) -> int:
    """Runs the program; returns the exit code."""
    parsed = _parser().parse_args(argv)
    _check_arguments(parsed)
    from serving.client.client import Client
    from serving.client.errors import PredictError

    # The program prints one line per error; gRPC's own log has several.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    predict = _predict_table if parsed.data else _predict_row
    try:
        with Client(parsed.target, **_client_settings(parsed)) as client:
            predict(client, parsed)
    except PredictError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="python -m serving.client",
        description="Predict by a model behind TensorFlow Serving: one row, or a "
        "table of any size, whose predictions are written as they arrive.",
    )
    text = partial(parser.add_argument, type=str)
    number = partial(parser.add_argument, type=int)
    switch = partial(parser.add_argument, action="store_true")
    pairs = partial(parser.add_argument, action="append")
    text("--target", metavar="HOST:PORT", help="gRPC server; http://... for REST.")
    text("--model", default="mmkeras", metavar="NAME", help="Model name.")
    number("--version", metavar="N", help="Model version.")
    text("--label", metavar="L", help="Label of a version, instead of its number.")
    text("--image", metavar="FILE", help="Image of the row.")
    text("--text", metavar="STR", help="Text of the row.")
    text("--audio", metavar="FILE", help="Audio of the row.")
    pairs("--column", metavar="NAME=VALUE", help="Any column; repeat for each.")
    text("--data", metavar="FILE.csv", help="Table, instead of one row.")
    text("--output", metavar="FILE", help="Output file; stdout by default.")
    text("--format", metavar="csv|jsonl", help="csv for a table, else jsonl.")
    switch("--n-best", help="Require the n best texts of a generator (jsonl only).")
    number("--in-flight", default=8, help="Limit of concurrent requests.")
    number("--batch", default=8, help="Rows of a table per request.")
    for name in (*MODALITIES, "id", "label"):
        text(f"--{name}-column", default=name, help=f"Header of the {name} column.")
    pairs("--rename", metavar="COLUMN=HEADER", help="Header of a column of the model.")
    switch("--text-files", help="Text is the path of a file: UTF-8 or .npy.")
    text("--timeout", type=float, default=30.0, help="Deadline of a request, seconds.")
    number("--retries", default=10, help="Limit of retries.")
    switch("--tls", help="TLS, with the authorities of this system.")
    text("--ca", metavar="FILE", help="TLS: certificates of trusted authorities.")
    text("--cert", metavar="FILE", help="Mutual TLS: certificate of the client.")
    text("--key", metavar="FILE", help="Mutual TLS: private key of --cert.")
    text("--server-name", default="", help="TLS: name in the server's certificate.")
    switch("--gzip", help="Compress requests (gRPC only).")
    number("--max-message-bytes", default=64 * 2**20, help="Largest message.")
    number("--max-file-mb", default=64, help="Largest file, megabytes.")
    number("--max-megapixels", default=50, help="Largest image.")
    text("--clip-s", type=float, default=60.0, help="Seconds of transcoded audio.")
    return parser


def _check_arguments(parsed) -> None:
    from mmkeras.files import check_file
    from serving.client.output_writer import FORMATS, JSON_LINES
    from serving.client.row_batch import check_stream

    if not parsed.target:
        raise UserError("Give --target HOST:PORT (gRPC) or http://HOST:PORT (REST).")
    values = _pairs(parsed, "column")
    if parsed.data and values:
        raise UserError(f"Give --data or {values[0][0]}, not both.")
    if not parsed.data and not values:
        raise UserError("Give --column, --image, --text, --audio, or a --data table.")
    _pairs(parsed, "rename", "_column")
    if parsed.format and parsed.format not in FORMATS:
        hint = did_you_mean(parsed.format, FORMATS)
        raise UserError(f"There is no format '{parsed.format}'.{hint}")
    check_stream(parsed.in_flight, parsed.batch)
    if parsed.n_best and _file_format(parsed) != JSON_LINES:
        raise UserError("--n-best takes --format jsonl; a CSV has the best text only.")
    if parsed.data:
        check_file("--data", parsed.data, "the path of a CSV")
    if not parsed.output and sys.stdout is None:
        raise UserError("There is no standard output; give --output FILE.")
    if parsed.output:
        _check_output(Path(parsed.output), parsed)


def _check_output(output: Path, parsed) -> None:
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise UserError(f"--output '{output}' must be a file in a folder that exists.")
    for flag, _, path in [("--data", "", parsed.data), *_pairs(parsed, "column")]:
        if path and output.exists() and os.path.exists(path) and output.samefile(path):
            raise UserError(f"--output is the file of {flag}; give another one.")


def _pairs(parsed, dest: str, suffix: str = "") -> list[tuple[str, str, str]]:
    """Returns flag, column and value of --text and so on, and of the flag NAME=VALUE.

    Leaves out flags with their defaults.
    """
    pairs = []
    for name in MODALITIES:
        value = getattr(parsed, f"{name}{suffix}")
        if value is not None and not (suffix and value == name):
            pairs.append((f"--{name}{suffix.replace('_', '-')}", name, value))
    for pair in getattr(parsed, dest) or ():
        name, sign, value = pair.partition("=")
        if not (name and sign):
            raise UserError(f"--{dest} '{pair}' must be NAME=VALUE. Add '='.")
        pairs.append((f"--{dest} {name}", name, value))
    return pairs


def _client_settings(parsed) -> dict:
    from serving.client.settings import Limits, Tls

    def read(*names):
        return {name: getattr(parsed, name) for name in names}

    tls = read("ca", "cert", "key", "server_name")
    limits = read("max_file_mb", "max_megapixels", "clip_s")
    names = ("model", "version", "label", "retries", "max_message_bytes", "gzip")
    return read(*names) | {
        "timeout_s": parsed.timeout,
        "tls": Tls(**tls) if parsed.tls or any(tls.values()) else None,
        "limits": Limits(**limits),
    }


def _predict_row(client, parsed) -> None:
    from mmkeras.data.table import Row
    from serving.client.output_writer import OutputWriter

    row = _row(parsed, _describe(client, parsed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # printed below
        (prediction,) = client.predict_rows([row])
    file_format = _file_format(parsed)
    classes = client.describe().classes
    with _open_output(parsed.output) as file:
        writer = OutputWriter(file, file_format, classes, parsed.target)
        writer.write(Row(line=1, id="0", cells={}), prediction)
    print_warnings(warn_of_faults(Examples(prediction.notes)))


def _describe(client, parsed):
    """Returns the description of the model, which has what the flags need."""
    from serving.client.model_info import check_n_best

    model = client.describe()
    if parsed.n_best:
        check_n_best(model, parsed.model)
    return model


def _row(parsed, model) -> dict[str, str | Path]:
    """Returns column -> value of one row.

    Raises:
        UserError: A flag names no column, or one that has a value already.
    """
    from mmkeras.modalities.column import FileReader
    from serving.client.columns import cell_value
    from serving.client.model_info import column_error

    row = {}
    for flag, name, value in _pairs(parsed, "column"):
        columns = [name] if name in model.columns else []
        if not columns and flag == f"--{name}":  # the only column of this type
            columns = [n for n, kind in model.columns.items() if kind == name]
        if len(columns) != 1:
            error = column_error(name, model.columns, parsed.model)
            raise UserError(f"{flag}: {error}")
        (name,) = columns
        if name in row:
            raise UserError(f"{flag}: column '{name}' has a value. Give it once.")
        kind, files = model.columns[name], FileReader(".")
        row[name] = cell_value(value, kind, parsed.text_files, files)
    return row


def _table(parsed, model):
    from mmkeras.config import TableConfig
    from serving.client.model_info import column_error
    from serving.client.table import Table

    names = {}
    for flag, name, header in _pairs(parsed, "rename", "_column"):
        if name not in model.columns:
            raise UserError(
                f"{flag}: {column_error(name, model.columns, parsed.model)}"
            )
        names[name] = header
    roles = TableConfig(id_column=parsed.id_column, label=parsed.label_column)
    path, text_files = Path(parsed.data), parsed.text_files
    table = Table(path=path, roles=roles, names=names, text_files=text_files)
    table.check(model)
    return table


def _predict_table(client, parsed) -> None:
    from tqdm import tqdm

    from serving.client.output_writer import OutputWriter
    from serving.client.table import Totals, predict_table

    model, totals = _describe(client, parsed), Totals()
    table = _table(parsed, model)
    file_format = _file_format(parsed)
    # None: a progress bar on a terminal only; and none between rows on a terminal.
    disable = True if not parsed.output and sys.stdout.isatty() else None
    try:
        with (
            _open_output(parsed.output) as file,
            tqdm(desc="Predicting", unit="row", disable=disable) as bar,
        ):
            writer = OutputWriter(file, file_format, model.classes, parsed.target)

            def write(row, prediction):
                writer.write(row, prediction)
                bar.update()

            limits = {"in_flight": parsed.in_flight, "batch": parsed.batch}
            predict_table(client, table, write, totals, **limits)
        table.warn(model, totals)
    finally:
        if totals.rows:  # after Ctrl-C and errors too
            count = f"{totals.unreadable:,} of them with something unreadable"
            file = sys.stdout if parsed.output else sys.stderr
            print(f"{totals.rows:,} rows predicted, {count}.", file=file)
            if parsed.output:
                print(f"Predictions: {parsed.output}")


def _file_format(parsed) -> str:
    default = "csv" if parsed.data else "jsonl"
    suffix = Path(parsed.output or "").suffix.lower()
    return parsed.format or _SUFFIXES.get(suffix, default)


@contextmanager
def _open_output(output: str | None) -> Iterator[TextIO]:
    try:
        if not output:
            yield sys.stdout
            return
        with open(output, "w", newline="", encoding="utf-8") as file:
            yield file
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk: the error has no file name
        error.filename = error.filename or output or "the standard output"
        raise


if __name__ == "__main__":
    run_program(main)
