"""Explanation program: effects of modalities, regions and words on predictions."""

import json
from collections.abc import Sequence
from pathlib import Path

from mmkeras.cli import Parser, print_warnings, run_program
from mmkeras.config import check
from mmkeras.environment.tensorflow_import import import_tensorflow
from mmkeras.files import (
    atomic_folder,
    check_output_folder,
    check_table,
    unused_path,
    write_text,
)
from mmkeras.schema import EXPLANATIONS_FILE, EXPLANATIONS_PAGE


def main(argv: Sequence[str]) -> int:
    """Parses the command line and explains; returns the exit code."""
    parser = Parser(
        prog="python -m mmkeras.explain",
        description="Explain the predictions of the first rows of a table: the effect "
        "of each modality, image region, word and part of the audio; and of generated "
        "texts also the effects on each of their words.",
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
    folder = Path(parsed.model)
    check(parsed.rows >= 1, "--rows", parsed.rows, "at least 1")
    table = check_table(parsed.data)
    default = folder / f"explain-{table.stem}"
    output = Path(parsed.output or unused_path(default))
    check_output_folder(output)
    rows = explain(folder, table, output, parsed.rows)
    print(f"{rows:,} rows explained.")
    print(f"Page: {output / EXPLANATIONS_PAGE}")
    return 0


def explain(folder: Path, table: Path, output: Path, rows: int) -> int:
    """Explains up to `rows` first rows of a table; returns their number.

    `folder` is a run folder; the table has columns of its modalities, and labels are
    shown if it has them. The new or empty folder `output` gets explain.html and
    explanations.json, atomically.

    Raises:
        UserError: The run, the table or the folder cannot be used.

    Example:
        explain(Path("runs/a"), Path("rows.csv"), Path("explained"), rows=8)
    """
    import_tensorflow()
    from mmkeras.estimators.row_predictions import RowWarnings, explain_table
    from mmkeras.explanation.page import as_json, build_card, write_explanations
    from mmkeras.export.inference import load_trained
    from mmkeras.modalities.preprocessing_state import REGRESSION

    trained_model = load_trained(folder)
    config, columns = trained_model.config, trained_model.preprocessor.columns
    cards, content, warnings = [], [], RowWarnings()
    with atomic_folder(output.absolute()) as tmp_folder:
        for read, explanation in explain_table(trained_model, table, rows, warnings):
            content.append(as_json(read, explanation))
            cards.append(build_card(read, explanation, columns))
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        write_text(tmp_folder / EXPLANATIONS_FILE, text)
        title = f"Explained predictions of {config.preset}"
        is_share = trained_model.state.task != REGRESSION
        write_explanations(tmp_folder / EXPLANATIONS_PAGE, title, cards, is_share)
    print_warnings(warnings.texts(columns))
    return len(cards)


if __name__ == "__main__":
    run_program(main)
