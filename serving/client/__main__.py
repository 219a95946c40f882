"""`python -m serving.client`: a row or a table through a served model."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TextIO

from mmkeras.cli import Parser, run_program
from mmkeras.errors import UserError
from mmkeras.schema import AUDIO, IMAGE, MODALITIES, TEXT

_SINGLE = (IMAGE, TEXT, AUDIO)


def main(argv: Sequence[str]) -> int:
    """Parses the command line and asks the server; returns the exit code."""
    parsed = _parser().parse_args(argv)
    _check(parsed)
    from serving.client.client import Client
    from serving.client.errors import PredictError

    # One line says what is wrong; gRPC's own log says it in five.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    ask = _table if parsed.data else _row
    try:
        with Client(parsed.target, **_settings(parsed)) as client:
            ask(client, parsed)
    except PredictError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="python -m serving.client",
        description="Ask a model behind TensorFlow Serving: one row, or a table of "
        "any size whose answers are written as they come.",
    )
    add = partial(parser.add_argument, type=str)
    number = partial(parser.add_argument, type=int)
    add("--target", metavar="HOST:PORT", help="gRPC; or http://... REST")
    add("--model", default="mmkeras", metavar="NAME", help="Name of the model.")
    number("--version", metavar="N", help="Version to ask.")
    add("--label", metavar="L", help="Label of a version, instead of its number.")
    add("--image", metavar="FILE", help="Picture of the one row.")
    add("--text", metavar="STR", help="Text of the one row.")
    add("--audio", metavar="FILE", help="Sound of the one row.")
    add("--data", metavar="FILE.csv", help="Table, instead of one row.")
    add("--output", metavar="FILE", help="Result; without it, stdout.")
    add("--format", metavar="csv|jsonl", help="csv of a table, else jsonl.")
    number("--in-flight", default=8, help="Requests under way at a time.")
    number("--batch", default=8, help="Rows of a table in one request.")
    for name in (*MODALITIES, "id", "label"):
        add(f"--{name}-column", default=name, help=f"Header of the {name} column.")
    parser.add_argument(
        "--text-files", action="store_true", help="Text names files: UTF-8 or .npy."
    )
    add("--timeout", type=float, default=30.0, help="Deadline of a request, seconds.")
    number("--retries", default=10, help="How often it may be sent again.")
    parser.add_argument(
        "--tls", action="store_true", help="TLS, trusting the usual authorities."
    )
    add("--ca", metavar="FILE", help="TLS: certificates of authorities to trust.")
    add("--cert", metavar="FILE", help="Mutual TLS: the client's certificate.")
    add("--key", metavar="FILE", help="Mutual TLS: its key.")
    add("--server-name", default="", help="TLS: name that the server must show.")
    parser.add_argument("--gzip", action="store_true", help="Pack what gRPC sends.")
    number("--max-message-bytes", default=64 * 2**20, help="Largest message.")
    number("--max-file-mb", default=64, help="Largest file that is read.")
    number("--max-megapixels", default=50, help="Largest picture.")
    add("--clip-s", type=float, default=60.0, help="Seconds of a transcoded sound.")
    return parser


def _check(parsed) -> None:
    from mmkeras.errors import did_you_mean
    from serving.client.output_writer import FORMATS
    from serving.client.row_batch import check_flow

    if not parsed.target:
        raise UserError("Give --target HOST:PORT (gRPC) or http://HOST:PORT (REST).")
    given = [m for m in _SINGLE if getattr(parsed, m) is not None]
    if parsed.data and given:
        raise UserError(f"Give --data or --{given[0]}, not both.")
    if not parsed.data and not given:
        raise UserError("Give --image, --text, --audio, or a table by --data.")
    if parsed.format and parsed.format not in FORMATS:
        hint = did_you_mean(parsed.format, FORMATS)
        raise UserError(f"There is no format '{parsed.format}'.{hint}")
    check_flow(parsed.in_flight, parsed.batch)
    if parsed.data and not Path(parsed.data).is_file():
        raise UserError(f"--data '{parsed.data}' is no file; give the path of a CSV.")
    if not parsed.output and sys.stdout is None:
        raise UserError("There is no standard output; give --output FILE.")
    if parsed.output:
        _check_output(Path(parsed.output), parsed)


def _check_output(output: Path, parsed) -> None:
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise UserError(f"--output '{output}' must be a file in a folder that exists.")
    for flag in ("data", IMAGE, AUDIO):
        read = getattr(parsed, flag)
        if read and output.exists() and os.path.exists(read) and output.samefile(read):
            raise UserError(f"--output is the file of --{flag}; give another one.")


def _settings(parsed) -> dict:
    from serving.client.settings import Limits, Tls

    tls = None
    if parsed.tls or parsed.ca or parsed.cert or parsed.key or parsed.server_name:
        tls = Tls(
            ca=parsed.ca,
            cert=parsed.cert,
            key=parsed.key,
            server_name=parsed.server_name,
        )
    return {
        "model": parsed.model,
        "version": parsed.version,
        "label": parsed.label,
        "timeout_s": parsed.timeout,
        "retries": parsed.retries,
        "tls": tls,
        "max_message_bytes": parsed.max_message_bytes,
        "gzip": parsed.gzip,
        "limits": Limits(
            max_file_mb=parsed.max_file_mb,
            max_megapixels=parsed.max_megapixels,
            clip_s=parsed.clip_s,
        ),
    }


def _row(client, parsed) -> None:
    from mmkeras.data.table import Row
    from serving.client.output_writer import JSON_LINES, OutputWriter

    row = {m: getattr(parsed, m) for m in _SINGLE}
    if row[TEXT] is not None and parsed.text_files:
        row[TEXT] = Path(row[TEXT])
    answer = client.predict(**row)
    form = parsed.format or _form_of(parsed.output) or JSON_LINES
    with _opened(parsed.output) as file:
        writer = OutputWriter(file, form, client.describe().classes, parsed.target)
        writer(Row(line=1, id="0", cells={}), answer)


def _table(client, parsed) -> None:
    from tqdm import tqdm

    from mmkeras.config import TableConfig
    from serving.client.output_writer import CSV, OutputWriter
    from serving.client.table import Table, Totals, predict_table

    names = {
        f"{n}_column": getattr(parsed, f"{n}_column")
        for n in (*MODALITIES, "id", "label")
    }
    table = Table(
        path=Path(parsed.data),
        columns=TableConfig(**names),
        text_files=parsed.text_files,
    )
    model, totals = client.describe(), Totals()
    there = table.modalities(model)
    if missing := [m for m in model.modalities if m not in there]:
        words = ", ".join(missing)
        said = f"The table has no column for {words}: absent in every row."
        print(said, file=sys.stderr)
    form = parsed.format or _form_of(parsed.output) or CSV
    # None: a bar on a terminal only; and none among the rows that go to one.
    hidden = True if not parsed.output and sys.stdout.isatty() else None
    try:
        with (
            _opened(parsed.output) as file,
            tqdm(desc="Predicting", unit="row", disable=hidden) as bar,
        ):
            writer = OutputWriter(file, form, model.classes, parsed.target)

            def write(row, answer):
                writer(row, answer)
                bar.update()

            flow = {"in_flight": parsed.in_flight, "batch": parsed.batch}
            predict_table(client, table, write, totals, **flow)
    finally:
        if totals.rows:  # after Ctrl-C and after an error, too
            _sum_up(totals, parsed.output)


def _sum_up(totals, output) -> None:
    file = sys.stdout if output else sys.stderr
    print(
        f"{totals.rows:,} rows predicted, {totals.unreadable:,} of them with something "
        "unreadable.",
        file=file,
    )
    if output:
        print(f"Predictions: {output}", file=file)


def _form_of(output: str | None) -> str | None:
    """Returns the format that the name of a file asks for, if any."""
    from serving.client.output_writer import CSV, JSON_LINES

    ends = {".csv": CSV, ".jsonl": JSON_LINES, ".ndjson": JSON_LINES}
    return ends.get(Path(output or "").suffix.lower())


@contextmanager
def _opened(output: str | None) -> Iterator[TextIO]:
    try:
        if not output:
            yield sys.stdout
            return
        with open(output, "w", newline="", encoding="utf-8") as file:
            yield file
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk; it does not say of which file
        error.filename = error.filename or output or "the standard output"
        raise


if __name__ == "__main__":
    run_program(main)
