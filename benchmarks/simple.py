"""Baselines of a run, evaluated on another table.

    python -m benchmarks.simple RUN TABLE.csv FOLDER

The logistic regression is fitted to the run's training rows.
"""

from pathlib import Path

from mmkeras.cli import run_program
from mmkeras.data.demo_tables import table_or_demo
from mmkeras.export.run_manifest import read_manifest
from mmkeras.schema import TEST
from mmkeras.training.run_folder import DEMO_DATA


def main(argv) -> None:
    from mmkeras.data.ingest import ingest
    from mmkeras.evaluation.evaluate import evaluate
    from mmkeras.export.inference import load_trained

    run, table, output = map(Path, argv)
    trained_model = load_trained(run)
    data = read_manifest(run)["data"]
    train_table = table_or_demo(
        None if data == DEMO_DATA else Path(data), trained_model.config.task
    )
    output.mkdir(exist_ok=True)
    evaluate(
        trained_model,
        ingest(table, trained_model.config, only=TEST),
        TEST,
        output,
        history=[],
        summary={},
        train_rows=ingest(train_table, trained_model.config),
    )


if __name__ == "__main__":
    run_program(main)
