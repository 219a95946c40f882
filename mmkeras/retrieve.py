"""`python -m mmkeras.retrieve`: rows whose picture, text or sound fits a query."""

import csv
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mmkeras.cli import Parser, run_program
from mmkeras.environment.tensorflow_import import import_tensorflow
from mmkeras.errors import UserError
from mmkeras.schema import EMBEDDINGS, LABEL_SEPARATOR, MODALITIES, TEXT

_BATCH_ROWS = 64
_COLUMNS = ("found", "rank", "cosine", "id", "label", "content")
_SHOWN = 60  # characters of a content


def main(argv: Sequence[str]) -> int:
    """Parses the command line and searches; returns the exit code."""
    parser = Parser(
        prog="python -m mmkeras.retrieve",
        description="Find the rows of a table whose other modalities are nearest to a "
        "query, by a model whose training has aligned them.",
    )
    parser.add_argument("--model", required=True, metavar="RUN", help="Run folder.")
    parser.add_argument("--data", required=True, metavar="FILE.csv", help="Table.")
    for m in MODALITIES:
        what = "STR" if m == TEXT else "FILE"
        parser.add_argument(f"--query-{m}", metavar=what, help=f"Query by {m}.")
    parser.add_argument(
        "--find", metavar="MODALITY", help="What to find; else all the others."
    )
    parser.add_argument("--top", type=int, default=10, metavar="N", help="Rows found.")
    parser.add_argument("--output", metavar="FILE.csv", help="Result, as a table.")
    parsed = parser.parse_args(argv)
    table = Path(parsed.data)
    given = {m: getattr(parsed, f"query_{m}") for m in MODALITIES}
    queries = {m: query for m, query in given.items() if query is not None}
    if len(queries) != 1:
        raise UserError(
            f"There are {len(queries)} queries; give one of "
            f"{', '.join(f'--query-{m}' for m in MODALITIES)}."
        )
    if parsed.top < 1:
        raise UserError(f"--top={parsed.top} is not possible: it must be at least 1.")
    if not table.is_file():
        raise UserError(f"--data '{table}' is no file; give the path of a CSV.")
    output = Path(parsed.output) if parsed.output else None
    if output and (output.is_dir() or not output.absolute().parent.is_dir()):
        raise UserError(f"--output '{output}' must be a file in a folder that exists.")
    if output and output.exists() and output.samefile(table):
        raise UserError("--output is the table itself; give another file.")
    ((modality, query),) = queries.items()
    found = retrieve(
        Path(parsed.model), table, modality, query, parsed.find, parsed.top
    )
    _say(found)
    if output:
        _write(found, output)
        print(f"Found: {output}")
    return 0


def retrieve(
    folder: Path, table: Path, modality: str, query: str, find: str | None, top: int
) -> list[dict]:
    """Searches a table in bounded memory.

    Args:
        folder: Run folder of a model with aligned modalities.
        table: CSV with columns of what is to be found; labels are shown if there.
        modality: Of the query.
        query: A text, or the path of a file.
        find: A modality; None is all that are aligned, but the query's.
        top: Rows found, at most, of each modality.

    Returns:
        Entries with found (the modality), rank, cosine, id, label and content (the
        cell of the table), the nearest first.

    Raises:
        UserError: The run, the table or the query cannot be used.
    """
    from tqdm import tqdm

    import_tensorflow()
    from mmkeras.data.example_reader import read_batches
    from mmkeras.evaluation.retrieval import Nearest
    from mmkeras.export.inference import Predictor, load_trained

    trained_model = load_trained(folder)
    predictor = Predictor(trained_model)
    sought = _sought(trained_model, modality, find, folder)
    vector = _embed(predictor, [_read_query(trained_model, modality, query)], modality)[
        0
    ]
    nearest = {m: Nearest(vector, top) for m in sought}
    unreadable = 0
    progress = tqdm(desc="Searching", unit="row", disable=None, leave=False)
    config, widths = trained_model.config, trained_model.state.widths
    for batch in read_batches(table, config, sought, widths, _BATCH_ROWS):
        data = [read.data for read in batch]
        outputs = _outputs(predictor, data)
        for m, kept in nearest.items():
            kept.add(outputs[EMBEDDINGS[m]], [read.row for read in batch])
        unreadable += sum(bool(read.broken) for read in batch)
        progress.update(len(batch))
    progress.close()
    if unreadable:
        print(f"{unreadable:,} rows have something unreadable.", file=sys.stderr)
    if not any(kept.searched for kept in nearest.values()):
        raise UserError(
            f"No row of '{table}' has {' or '.join(sought)} that can be read."
        )
    return [
        {
            "found": m,
            "rank": rank,
            "cosine": cosine,
            "id": row.id,
            "label": LABEL_SEPARATOR.join(row.labels),
            "content": row.cells[m],
        }
        for m, kept in nearest.items()
        for rank, (cosine, row) in enumerate(kept.found(), 1)
    ]


def _sought(trained_model, modality, find, folder) -> list[str]:
    aligned = trained_model.config.loss.aligned(trained_model.state.modalities)
    if not aligned:
        raise UserError(
            f"The run in '{folder}' has no aligned modalities. Train one with, for "
            "example, --loss.text_image 0.1."
        )
    for flag, value in ((f"--query-{modality}", modality), ("--find", find)):
        if value is not None and value not in aligned:
            raise UserError(
                f"{flag}: '{value}' is not aligned in the run '{folder}'; "
                f"{' and '.join(aligned)} are."
            )
    if find == modality:
        raise UserError(f"--find {find} is the query's own; find another modality.")
    return [find] if find else [m for m in aligned if m != modality]


def _read_query(trained_model, modality, query) -> dict[str, bytes]:
    from mmkeras.data.example_reader import RowReader
    from mmkeras.data.table import Row

    reader = RowReader("", trained_model.config, trained_model.state.widths)
    read = reader.read(Row(line=0, id="query", cells={modality: query.strip()}))
    if read.broken:
        raise UserError(f"--query-{modality}: {read.broken[modality]}.")
    if not read.data[modality]:
        raise UserError(f"--query-{modality} is empty.")
    return read.data


def _embed(predictor, data, modality):
    vectors = _outputs(predictor, data)[EMBEDDINGS[modality]]
    if not vectors.any():
        raise UserError(f"--query-{modality} has nothing that the model can read.")
    return vectors


def _outputs(predictor, data):
    return predictor({m: [d.get(m, b"") for d in data] for m in predictor.modalities})


def _say(found):
    from mmkeras.reports.tables import markdown_table

    for m in dict.fromkeys(entry["found"] for entry in found):
        rows = [
            [_cut(e["content"]), e["id"], e["label"], f"{e['cosine']:.3f}"]
            for e in found
            if e["found"] == m
        ]
        print(markdown_table([m, "id", "label", "cosine"], rows) + "\n")


def _cut(content):
    content = " ".join(content.split())
    return content if len(content) <= _SHOWN else content[: _SHOWN - 3] + "..."


def _write(found, output):
    aside = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with aside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, _COLUMNS)
            writer.writeheader()
            writer.writerows({**e, "cosine": f"{e['cosine']:.6f}"} for e in found)
        os.replace(aside, output)
    finally:
        aside.unlink(missing_ok=True)


if __name__ == "__main__":
    run_program(main)
