"""Retrieval program: rows with the image, text, audio or label nearest to a query."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from mmkeras.cli import Parser, print_warnings, run_program
from mmkeras.config import check
from mmkeras.config.generate import GENERATE
from mmkeras.config.zero_shot import ZERO_SHOT
from mmkeras.data.table import check_columns
from mmkeras.environment.tensorflow_import import import_tensorflow
from mmkeras.errors import Examples, UserError, one_line, shorten, warn_of_faults
from mmkeras.files import atomic_csv, check_output_file, check_table
from mmkeras.names import clean_name
from mmkeras.schema import EMBEDDING, LABEL_SEPARATOR, MODALITIES, embedding_name

_BATCH_ROWS = 64
_COLUMNS = ("found", "rank", "cosine", "id", "label", "content")
_MAX_CHARACTERS = 60  # of a printed cell


def main(argv: Sequence[str]) -> int:
    """Parses the command line and searches; returns the exit code."""
    parser = Parser(
        prog="python -m mmkeras.retrieve",
        description="Find the rows of a table whose other modalities are nearest to a "
        "query, by a model whose training has aligned them, or by a zero-shot model.",
    )
    parser.add_argument("--model", required=True, metavar="RUN", help="Run folder.")
    parser.add_argument("--data", required=True, metavar="FILE.csv", help="Table.")
    for kind in MODALITIES:
        parser.add_argument(
            f"--query-{kind}",
            metavar="CELL",
            help=f"Query by the column named {kind}: its cell, a text or a path.",
        )
    parser.add_argument("--query", metavar="CELL", help="Query by another column.")
    parser.add_argument("--column", metavar="NAME", help="Column of --query.")
    parser.add_argument(
        "--find", metavar="COLUMN", help="Column to search; else all others."
    )
    parser.add_argument(
        "--top", type=int, default=10, metavar="N", help="Rows per column."
    )
    parser.add_argument("--output", metavar="FILE.csv", help="Result, as a table.")
    parsed = parser.parse_args(argv)
    values = {m: getattr(parsed, f"query_{m}") for m in MODALITIES}
    queries = {m: query for m, query in values.items() if query is not None}
    if (parsed.query is None) != (parsed.column is None):
        raise UserError("Give --query CELL and --column NAME together.")
    if parsed.column:
        queries[parsed.column] = parsed.query
    if len(queries) != 1:
        raise UserError(
            f"There are {len(queries)} queries; give one of "
            f"{', '.join(f'--query-{m}' for m in MODALITIES)} and --query."
        )
    check(parsed.top >= 1, "--top", parsed.top, "at least 1")
    table = check_table(parsed.data)
    output = Path(parsed.output) if parsed.output else None
    if output:
        check_output_file(output, table)
    ((modality, query),) = queries.items()
    search = modality, query, parsed.find, parsed.top
    results = retrieve(Path(parsed.model), table, *search)
    _print_results(results)
    if output:
        _write_results(results, output)
        print(f"Found: {output}")
    return 0


def retrieve(
    folder: Path, table: Path, modality: str, query: str, find: str | None, top: int
) -> list[dict]:
    """Searches a table in bounded memory by a model with aligned modalities.

    `folder` is the model's run folder; the table has columns of the searched
    modalities, and labels are optional. The query is a text, or the path of a file. It
    is compared with the modality `find`; None is all aligned ones except its own. A
    zero-shot model compares its images with an image, or with a text by the text
    encoder of its preset. The text of a generator's label is a modality too, by the
    name of its column; of several references of a row the nearest one counts.

    Returns:
        At most `top` entries per modality with found (the modality), rank, cosine, id,
        label and content (the cell of the table), the nearest first.

    Raises:
        UserError: The run, the table or the query cannot be used.

    Example:
        retrieve(Path("runs/a"), Path("rows.csv"), "text", "a red car", "image", 5)
    """
    import_tensorflow()
    from mmkeras.evaluation.retrieval import NearestRows
    from mmkeras.evaluation.text_embedding import build_embed_texts
    from mmkeras.export.inference import Predictor, load_trained

    trained_model = load_trained(folder)
    predictor = Predictor(trained_model)
    targets = _target_modalities(trained_model, modality, find, folder)
    faults = Examples()
    if _is_zero_shot(trained_model) and modality not in targets:
        vector = _encode_text(trained_model, query)
    elif modality == _label_name(trained_model):
        (vector,) = build_embed_texts(trained_model)([query.strip()])
    else:
        read = _read_query(trained_model, modality, query)
        faults.add(f"--query-{modality}: {note}" for note in read.notes)
        output = _output_name(trained_model, modality)
        vector = _predict(predictor, [read])[output][0]
    if not vector.any():
        raise UserError(f"--query-{modality} has nothing that the model can read.")
    # Several rows with one id are references of one row, if labels are texts.
    is_generator = trained_model.state.task == GENERATE
    key = (lambda row: clean_name(row.id)) if is_generator else None
    nearest = {m: NearestRows(vector, top, key) for m in targets}
    _search(predictor, trained_model, table, nearest, faults)
    print_warnings(warn_of_faults(faults))
    if not any(rows.searched for rows in nearest.values()):
        raise UserError(f"No row of '{table}' has readable {' or '.join(targets)}.")
    return [
        {
            "found": m,
            "rank": rank,
            "cosine": cosine,
            "id": row.id,
            "label": LABEL_SEPARATOR.join(row.labels),
            "content": row.cells[m],
        }
        for m, rows in nearest.items()
        for rank, (cosine, row) in enumerate(rows.ranking(), 1)
    ]


def _search(predictor, trained_model, table, nearest, faults) -> None:
    """Adds the embeddings of all rows of a table to `nearest`, by modality.

    Adds their faults to `faults`.
    """
    from tqdm import tqdm

    from mmkeras.evaluation.text_embedding import build_embed_texts

    label, config = _label_name(trained_model), trained_model.config
    if label in nearest:
        check_columns(table, [label])
        embed = build_embed_texts(trained_model)
    branches = [name for name in nearest if name != label]
    unreadable = 0
    with tqdm(desc="Searching", unit="row", disable=None, leave=False) as progress:
        for batch in _read_batches(table, config, branches):
            rows = [read.row for read in batch]
            outputs = _predict(predictor, batch) if branches else {}
            for m in branches:
                nearest[m].add(outputs[_output_name(trained_model, m)], rows)
            if label in nearest:
                _add_references(nearest[label], label, rows, embed)
            for read in batch:
                unreadable += bool(read.broken)
                faults.add(read.faults)
            progress.update(len(batch))
    if unreadable:
        print(f"{unreadable:,} rows have something unreadable.", file=sys.stderr)


def _read_batches(table, config, names) -> Iterator[list]:
    """Yields batches of `RowContent` with some columns of the model, or with none."""
    from mmkeras.data.example_reader import RowContent, read_batches
    from mmkeras.data.table import iter_rows

    if names:
        config = replace(config, columns={n: config.columns[n] for n in names})
        yield from read_batches(table, config, _BATCH_ROWS)
        return
    rows = iter_rows(table, config.table, [], labeled=False)
    while batch := list(islice(rows, _BATCH_ROWS)):
        yield [RowContent(row=row, contents={}, data={}, broken={}) for row in batch]


def _add_references(nearest, label, rows, embed) -> None:
    """Adds rows to `nearest` by the reference of each that is nearest to its query."""
    texts = [text for row in rows for text in row.labels]
    scored = zip(texts, embed(texts), strict=True)
    scored = [(float(vector @ nearest.query), text, vector) for text, vector in scored]
    for row in rows:
        references = [scored.pop(0) for _ in row.labels]
        if references:
            _, text, vector = max(references, key=lambda entry: entry[0])
            row = replace(row, cells={**row.cells, label: text})
            nearest.add(vector[None], [row])


def _label_name(trained_model) -> str | None:
    """Returns the label column, if its texts are aligned with other modalities."""
    from mmkeras.export.inference import is_label_aligned

    names = trained_model.config.table.label_names
    return names[0] if is_label_aligned(trained_model) else None


def _is_zero_shot(trained_model) -> bool:
    return trained_model.config.fusion.kind == ZERO_SHOT


def _output_name(trained_model, modality) -> str:
    """Returns the output with the unit vectors of a modality."""
    return EMBEDDING if _is_zero_shot(trained_model) else embedding_name(modality)


def _encode_text(trained_model, query):
    """Returns the unit vector (D,) of a text, by the preset of the image encoder."""
    from mmkeras.modalities.image.prompts import encode_prompts

    (column,) = trained_model.preprocessor.columns.values()
    return encode_prompts(column.settings.weights, [query])[0][0]


def _check_zero_shot(columns, modality, find) -> list[str]:
    """Returns the column of images of a zero-shot model, if it is what is searched."""
    (name,) = columns
    if modality not in ("text", name) or find not in (None, name):
        raise UserError(
            f"The model compares the column '{name}' with a text or with an image: "
            f"give --query-text, or --query PATH --column {name}."
        )
    return [name]


def _target_modalities(trained_model, modality, find, folder) -> list[str]:
    from mmkeras.modalities.columns import branch_types

    if _is_zero_shot(trained_model):
        return _check_zero_shot(trained_model.preprocessor.columns, modality, find)
    types = branch_types(
        trained_model.preprocessor.branches.values(), trained_model.config
    )
    aligned = trained_model.config.loss.aligned(types)
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
        text = f"--find {find} is the modality of the query; give another one."
        raise UserError(text)
    return [find] if find else [m for m in aligned if m != modality]


def _read_query(trained_model, modality, query):
    """Returns the RowContent of the query."""
    from mmkeras.data.example_reader import RowReader
    from mmkeras.data.table import Row

    reader = RowReader("", trained_model.config)
    read = reader.read(Row(line=0, id="query", cells={modality: query.strip()}))
    if read.broken:
        raise UserError(f"--query-{modality}: {read.broken[modality]}.")
    if modality not in read.contents:
        raise UserError(f"--query-{modality} is empty.")
    return read


def _predict(predictor, rows):
    from mmkeras.data.example_reader import batch_data

    return predictor(batch_data(predictor.columns, rows))


def _print_results(results):
    from mmkeras.reports.tables import markdown_table

    for m in dict.fromkeys(entry["found"] for entry in results):
        rows = []
        for e in (entry for entry in results if entry["found"] == m):
            content = shorten(one_line(e["content"]), _MAX_CHARACTERS)
            rows.append([content, e["id"], e["label"], f"{e['cosine']:.3f}"])
        print(markdown_table([m, "id", "label", "cosine"], rows) + "\n")


def _write_results(results, output):
    with atomic_csv(output) as writer:
        writer.writerow(_COLUMNS)
        for entry in results:
            cells = entry | {"cosine": f"{entry['cosine']:.6f}"}
            writer.writerow([cells[name] for name in _COLUMNS])


if __name__ == "__main__":
    run_program(main)
