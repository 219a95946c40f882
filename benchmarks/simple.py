"""Measures baselines on another table: those that a run's report has beside its model.

    python -m benchmarks.simple RUN TABLE.csv FOLDER

The logistic regression is fitted to the run's training rows.
"""

from pathlib import Path

from mmkeras import embedded
from mmkeras.cli import run_program
from mmkeras.run import EMBEDDED, read_manifest
from mmkeras.schema import TEST


def main(argv) -> None:
    from mmkeras.evaluation import evaluate
    from mmkeras.inference import load_trained
    from mmkeras.records import ingest

    run, table, output = map(Path, argv)
    trained = load_trained(run)
    data = read_manifest(run)["data"]
    if data == EMBEDDED:
        data = embedded.make(embedded.default_folder()) / "data.csv"
    widths = trained.analysis.widths
    output.mkdir(exist_ok=True)
    evaluate(
        trained,
        ingest(table, trained.config, only=TEST, widths=widths),
        TEST,
        output,
        history=[],
        summary={},
        train_rows=ingest(Path(data), trained.config),
    )


if __name__ == "__main__":
    run_program(main)
