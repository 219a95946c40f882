"""`python -m mmkeras.explain`: why the model answers rows of a table as it does."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from mmkeras.cli import Parser, run_program
from mmkeras.environment.tensorflow_import import import_tensorflow
from mmkeras.errors import UserError
from mmkeras.schema import EXPLANATIONS_FILE, EXPLANATIONS_PAGE


def main(argv: Sequence[str]) -> int:
    """Parses the command line and explains; returns the exit code."""
    parser = Parser(
        prog="python -m mmkeras.explain",
        description="Explain the answers to the first rows of a table: what each "
        "modality brings, and which regions, words and sounds speak for or against.",
    )
    parser.add_argument("--model", required=True, metavar="RUN", help="Run folder.")
    parser.add_argument("--data", required=True, metavar="FILE.csv", help="Table.")
    parser.add_argument(
        "--output", metavar="DIR", help="New folder; else one in the run folder."
    )
    parser.add_argument(
        "--rows", type=int, default=8, metavar="N", help="Rows, from the first."
    )
    parsed = parser.parse_args(argv)
    table, folder = Path(parsed.data), Path(parsed.model)
    if parsed.rows < 1:
        raise UserError(f"--rows={parsed.rows} is not possible: it must be at least 1.")
    if not table.is_file():
        raise UserError(f"--data '{table}' is no file; give the path of a CSV.")
    output = Path(parsed.output) if parsed.output else _new_folder(folder, table)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"--output '{output}' is there already; give a new folder.")
    rows = explain(folder, table, output, parsed.rows)
    print(f"{rows:,} rows explained.")
    print(f"Page: {output / EXPLANATIONS_PAGE}")
    return 0


def _new_folder(folder: Path, table: Path) -> Path:
    first, number = folder / f"explain-{table.stem}", 1
    path = first
    while path.exists():
        number += 1
        path = Path(f"{first}-{number}")
    return path


def explain(folder: Path, table: Path, output: Path, rows: int) -> int:
    """Explains the first rows of a table; `output` appears whole, by a rename.

    Args:
        folder: Run folder.
        table: CSV with the modalities' columns; labels are shown if there.
        output: Folder for explain.html and explanations.json; new or empty.
        rows: At most as many.

    Returns:
        The number of rows.

    Raises:
        UserError: The run, the table or the folder cannot be used.
    """
    from tqdm import tqdm

    import_tensorflow()
    from mmkeras.explanation.explainer import Explainer
    from mmkeras.explanation.page import as_json, card, write_explanations
    from mmkeras.export.inference import load_trained

    trained_model = load_trained(folder)
    rows_read = islice(_rows(trained_model, table), rows)
    explainer, cards, content = Explainer(trained_model), [], []
    with _appearing(output) as aside:
        progress = tqdm(rows_read, "Explaining", rows, disable=None, leave=False)
        for read in progress:
            found = explainer.explain(read)
            content.append(as_json(read, found))
            cards.append(card(read, found, trained_model.config, explainer.decoders))
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        (aside / EXPLANATIONS_FILE).write_text(text, encoding="utf-8")
        title = f"Why {trained_model.config.preset} answers as it does"
        write_explanations(aside / EXPLANATIONS_PAGE, title, cards)
    return len(cards)


@contextmanager
def _appearing(output: Path) -> Iterator[Path]:
    """Gives a folder beside `output` that takes its name when all went well."""
    output = output.absolute()
    aside = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        aside.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"--output '{output}' cannot be made: {error}.") from None
    try:
        yield aside
        os.replace(aside, output)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _rows(trained_model, table) -> Iterator:
    """Reads rows and what they name, one at a time."""
    from mmkeras.data.example_reader import unlabeled_rows

    state = trained_model.state
    reader, rows = unlabeled_rows(
        table, trained_model.config, state.modalities, state.widths
    )
    yield from map(reader.read, rows)


if __name__ == "__main__":
    run_program(main)
