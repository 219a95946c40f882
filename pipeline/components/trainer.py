"""Trainer: TFX's run_fn, which trains like `mmkeras.train` on tf.Examples."""

import json
import shutil
from pathlib import Path
from typing import Any

import keras_tuner
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.utils import io_utils

from mmkeras.config import Config, from_dict
from mmkeras.data.dataset import Dataset, load_dataset, with_columns
from mmkeras.errors import UserError
from mmkeras.export import run_manifest
from mmkeras.files import is_remote
from mmkeras.schema import EXPORT_DIR
from mmkeras.training import run_folder
from mmkeras.training.cluster import read_cluster
from mmkeras.training.prepare_run import RunData, write_run_header
from mmkeras.training.steps import train_on
from pipeline.components.remote_sync import synced_folder
from pipeline.components.transform import read_analysis
from pipeline.settings import tuned


def run_fn(fn_args: FnArgs) -> None:
    """Trains or resumes a run, and writes the model for serving.

    The ModelRun artifact is the run folder, with checkpoints and TensorBoard logs.
    """
    check_single_worker()
    config = from_dict(json.loads(fn_args.custom_config["config"]))
    if fn_args.hyperparameters:
        best = keras_tuner.HyperParameters.from_config(fn_args.hyperparameters)
        config = tuned(config, best.values)
    code = fn_args.custom_config.get("code", "")
    with synced_folder(fn_args.model_run_dir) as folder:
        if not is_remote(fn_args.model_run_dir):
            _adopt_unfinished_run(folder, config, read_dataset(fn_args), code)
        # The folder is the run's, even if TFX has written to it.
        (folder / run_folder.MARKER_FILE).touch()
        with run_folder.locked_folder(folder):
            data = fn_args.custom_config["data"]
            run_data = prepare(folder, config, fn_args, data)
            run_manifest.write_manifest(folder, code=code)
            train_on(folder, run_data)
        (version,) = (folder / EXPORT_DIR).glob("[0-9]*")
        io_utils.copy_dir(str(version), fn_args.serving_model_dir)


def check_single_worker() -> None:
    """Raises a UserError for several workers, before one waits for the others."""
    workers = read_cluster().workers
    if workers > 1:
        raise UserError(
            f"TF_CONFIG names {workers} workers, and the pipeline trains in one "
            "process with all GPUs of its machine. Unset it, or train with "
            "`python -m mmkeras.train` on each worker."
        )


def prepare(folder: Path, config: Config, fn_args: FnArgs, data: str) -> RunData:
    """Returns the rows with Transform's state, and writes the run header."""
    dataset = read_dataset(fn_args)
    # TFX's Tuner has the first alone; the second is deprecated.
    graph = fn_args.transform_graph_path or fn_args.transform_output
    state = read_analysis(graph, with_columns(config, dataset))
    return write_run_header(folder, config, dataset, state, data)


def read_dataset(fn_args: FnArgs) -> Dataset:
    """Returns the rows, which TFX names by a file pattern."""
    return load_dataset(fn_args.train_files[0].partition("/Split-")[0])


def _adopt_unfinished_run(
    folder: Path, config: Config, dataset: Dataset, code: str
) -> None:
    """Moves the files of a killed attempt at the same training to `folder`.

    TFX creates a new artifact in the same parent folder for each attempt.
    """
    if run_folder.has_started(folder):
        return
    others = [path for path in folder.parent.iterdir() if path != folder]
    for other in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True):
        if _is_same_and_unfinished(other, config, dataset, code):
            try:
                with run_folder.locked_folder(other):
                    for path in other.iterdir():
                        if not path.name.startswith("."):
                            shutil.move(path, folder / path.name)
            except UserError:  # a live process trains there
                continue
            return


def _is_same_and_unfinished(folder, config, dataset, code) -> bool:
    manifest: dict[str, Any] = run_manifest.read_manifest(folder)
    return (
        run_folder.has_started(folder)
        and not run_folder.is_finished(folder)
        and manifest["content"] == dataset.content
        and not run_folder.differing_settings(folder, config)
        and manifest.get("code") == code
    )
