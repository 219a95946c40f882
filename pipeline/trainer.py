"""Trainer: mmkeras.train on the pipeline's examples, in the artifact of the run."""

import json
import shutil
from pathlib import Path
from typing import Any

import keras_tuner
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.utils import io_utils

from mmkeras import run
from mmkeras.cluster import read_cluster
from mmkeras.config import Config, from_dict, to_dict
from mmkeras.errors import UserError
from mmkeras.files import is_remote
from mmkeras.ingested import Ingested, load_ingested, resolved
from mmkeras.prepare import Prepared, begin
from mmkeras.schema import EXPORT_DIR
from mmkeras.training import train_prepared
from pipeline.mirror import mirrored
from pipeline.settings import tuned
from pipeline.transform import read_analysis


def run_fn(fn_args: FnArgs) -> None:
    """Trains or goes on training, and writes the model for serving.

    The run folder is the ModelRun artifact, with checkpoints and TensorBoard logs.
    """
    check_alone()
    config = from_dict(json.loads(fn_args.custom_config["config"]))
    if fn_args.hyperparameters:
        found = keras_tuner.HyperParameters.from_config(fn_args.hyperparameters)
        config = tuned(config, found.values)
    code = fn_args.custom_config.get("code", "")
    with mirrored(fn_args.model_run_dir) as folder:
        if not is_remote(fn_args.model_run_dir):
            _take_over(folder, config, _rows(fn_args), code)
        # The artifact's own folder, whatever is in it.
        (folder / run.MARKER_FILE).touch()
        with run.opened(folder):
            data = fn_args.custom_config["data"]
            prepared = prepare(folder, config, fn_args, data)
            run.write_manifest(folder, code=code)
            train_prepared(folder, prepared)
        (version,) = (folder / EXPORT_DIR).glob("[0-9]*")
        io_utils.copy_dir(str(version), fn_args.serving_model_dir)


def check_alone() -> None:
    """Refuses several workers, before one waits for the others."""
    workers = read_cluster().workers
    if workers > 1:
        raise UserError(
            f"TF_CONFIG names {workers} workers, and the pipeline trains in one "
            "process with all GPUs of its machine. Unset it, or train with "
            "`python -m mmkeras.train` on each worker."
        )


def prepare(folder: Path, config: Config, fn_args: FnArgs, data: str) -> Prepared:
    """Returns the rows with what Transform has learned from them, noted in `folder`."""
    ingested = _rows(fn_args)
    analysis = read_analysis(
        fn_args.transform_output, ingested, resolved(config, ingested)
    )
    return begin(folder, config, ingested, analysis, data)


def _rows(fn_args: FnArgs) -> Ingested:
    """Returns the rows that TFX names by a pattern of their files."""
    return load_ingested(fn_args.train_files[0].partition("/Split-")[0])


def _take_over(folder: Path, config: Config, ingested: Ingested, code: str) -> None:
    """Moves here what a killed attempt at the same training has left behind.

    TFX gives each attempt an artifact of its own, beside the others'.
    """
    if run.has_begun(folder):
        return
    others = [path for path in folder.parent.iterdir() if path != folder]
    for other in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True):
        if _is_same_and_unfinished(other, config, ingested, code):
            try:
                with run.opened(other):
                    for path in other.iterdir():
                        if not path.name.startswith("."):
                            shutil.move(path, folder / path.name)
            except UserError:  # it is not dead: it trains there right now
                continue
            return


def _is_same_and_unfinished(folder, config, ingested, code) -> bool:
    manifest: dict[str, Any] = run.read_manifest(folder)
    return (
        run.has_begun(folder)
        and not run.is_finished(folder)
        and manifest["content"] == ingested.content
        and manifest["settings"] == to_dict(config)
        and manifest.get("code") == code
    )
