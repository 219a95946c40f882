"""Training program: from a table of any columns to a verified SavedModel."""

import os
import signal
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from mmkeras.cli import (
    INTERRUPTED,
    Parser,
    add_settings,
    choose_preset,
    drop_flags,
    run_program,
    settings,
)
from mmkeras.config import TableConfig
from mmkeras.config.members import member_configs
from mmkeras.config.zero_shot import ZERO_SHOT
from mmkeras.environment.extras import check_extras
from mmkeras.environment.tensorflow_import import import_tensorflow
from mmkeras.errors import UserError
from mmkeras.experiments.cross_validation import check_no_folds, train_folds
from mmkeras.experiments.subprocess_run import print_resume_command
from mmkeras.files import check_table
from mmkeras.reports import summary
from mmkeras.schema import MODEL_FILE
from mmkeras.training import run_folder
from mmkeras.training.cluster import read_cluster


def _build_parser(argv) -> Parser:
    parser = Parser(
        prog="python -m mmkeras.train",
        usage="%(prog)s [--data FILE.csv] [--output DIR] [--folds K [--ensemble]] "
        "[--preset NAME] [--config FILE.yaml] [--SETTING VALUE ...]",
        description="Train a multimodal classifier and export it for TF Serving. On "
        "several GPUs it trains on all. On several machines, start it on each with "
        "TF_CONFIG set and one --output and table that all can read.",
    )
    parser.add_argument(
        "--data",
        metavar="FILE.csv",
        help="Table of rows; else the demo data set.",
    )
    parser.add_argument(
        "--output", metavar="DIR", help="Run folder; else a new one under runs/."
    )
    parser.add_argument(
        "--folds",
        type=int,
        default=0,
        metavar="K",
        help="Cross-validate with K models; with --ensemble, export their mean.",
    )
    add_settings(parser, choose_preset(argv, has_demo=True))
    return parser


def main(argv: Sequence[str]) -> int:
    """Parses the command line and trains; returns the exit code."""
    parser = _build_parser(argv)
    parsed = parser.parse_args(_as_settings(argv))
    config = settings(parser, parsed)
    table = None  # the demo data set
    if parsed.data is not None:
        table = check_table(parsed.data)
    elif config.fusion.kind == ZERO_SHOT and not config.classes:
        raise UserError(
            "Zero-shot classification needs the names of the classes: give --classes "
            "NAME,NAME, or --data FILE.csv with a label column."
        )
    for member in member_configs(config).values():
        check_extras(member)
    cluster = read_cluster()
    _check_cluster(cluster, config, parsed.output)
    folder = Path(parsed.output or run_folder.new_folder(config.preset))
    if parsed.folds:
        return _cross_validate(folder, config, table, parsed.folds, argv)
    if not cluster.is_chief:
        return _train_as_worker(folder, config, table)
    check_no_folds(folder)
    with run_folder.opened_run(folder, config, table) as is_finished:
        if is_finished:
            print(f"The run in '{folder}' is finished already; nothing was trained.")
            print(summary.run_summary(folder))
            return 0
        return _train(folder, config, table, argv)


def _as_settings(argv: Sequence[str]) -> list[str]:
    """Returns the words with `--folds K --ensemble` as the setting ensemble.folds.

    With a value, --ensemble is a file of settings.
    """
    words, names = list(argv), [word.partition("=")[0] for word in argv]
    followers = [*words[1:], "--"]
    bare = [
        i
        for i, word in enumerate(words)
        if word == "--ensemble" and followers[i].startswith("--")
    ]
    if not bare:
        return words
    if "--folds" not in names:
        raise UserError(
            "--ensemble needs --folds K, the number of models. For several presets, "
            "give --ensemble.presets A,B."
        )
    words[names.index("--folds")] = words[names.index("--folds")].replace(
        "--folds", "--ensemble.folds", 1
    )
    return [word for i, word in enumerate(words) if i not in bare]


def _check_cluster(cluster, config, output) -> None:
    """Refuses settings that several workers cannot share."""
    if cluster.workers > 1 and not output:
        raise UserError(
            f"TF_CONFIG names {cluster.workers} workers, which need one --output: a "
            "run folder that all can read."
        )
    if cluster.workers > 1 and config.ensemble.is_active:
        raise UserError(
            "An ensemble (ensemble.presets, ensemble.folds) trains in one process, and "
            f"TF_CONFIG names {cluster.workers} workers. Unset one of the two."
        )
    has_epochs = config.fusion.has_epochs
    if cluster.workers > 1 and (config.evaluate.trained_alone or not has_epochs):
        kind = f"fusion.kind={config.fusion.kind}"
        name = "evaluate.trained_alone=true" if has_epochs else kind
        raise UserError(
            f"{name} trains in one process, and TF_CONFIG names {cluster.workers} "
            "workers. Unset one of the two."
        )


def _train(folder, config, table, argv) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        _fetch_models(config, table)
        import_tensorflow()
        from mmkeras.training.ensemble import train_run

        train_run(folder, config, table)
    except KeyboardInterrupt:
        words = [*drop_flags(argv, "--output"), "--output", str(folder)]
        path = folder / MODEL_FILE
        has_epoch = run_folder.has_started(folder)
        model = "The best model so far" if has_epoch else "An untrained model"
        note = f" {model} is in {path}." if path.exists() else ""
        print_resume_command("mmkeras.train", words, note)
        return INTERRUPTED
    print(summary.run_summary(folder))
    return 0


def _fetch_models(config, table) -> None:
    """Fetches models of hubs, as TensorFlow's import would delay an error."""
    from mmkeras.modalities.pretrained import fetch_handles, has_handles

    members = [c for c in member_configs(config).values() if has_handles(c)]
    has_rows = table is not None or config.fusion.kind != ZERO_SHOT
    if members and has_rows:
        from mmkeras.data.columns import find_columns
        from mmkeras.data.demo_tables import table_or_demo

        rows = table_or_demo(table, config.task)
        columns = find_columns(rows, config)[0].columns
        for member in members:
            fetch_handles(replace(member, columns=columns))


def _cross_validate(folder, config, table, folds, argv) -> int:
    TableConfig(folds=folds, fold=1)  # checks the number
    if config.fusion.kind == ZERO_SHOT:
        raise UserError("--folds trains, and zero-shot models do not; leave it out.")
    if config.table.folds:
        raise UserError("--folds sets table.folds and table.fold; leave them out.")
    if read_cluster().workers > 1:
        raise UserError("--folds trains on one machine; start it without TF_CONFIG.")
    flags = drop_flags(argv, "--folds", "--output", "--data")
    with run_folder.locked_folder(folder):
        return train_folds(folder, config, table, folds, flags)


def _train_as_worker(folder, config, table) -> int:
    """Trains as a worker other than the chief; prints and writes nothing."""
    run_folder.check_unchanged(folder, config, run_folder.data_name(table))
    if run_folder.is_finished(folder):
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    import_tensorflow()
    from mmkeras.training.steps import train_as_worker

    with (
        TemporaryDirectory(prefix="mmkeras-worker-") as local_folder,
        open(os.devnull, "w") as null,
        redirect_stdout(null),
    ):
        train_as_worker(folder, Path(local_folder), config, table)
    return 0


if __name__ == "__main__":
    run_program(main)
