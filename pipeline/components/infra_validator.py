"""InfraValidator: what is pushed, proved by the loader that TF Serving has.

The proof runs in a process of its own, as a model that kills the one that serves it
must not be pushed either.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import tensorflow as tf
from absl import logging
from tfx import types
from tfx.dsl.components.base import base_component, base_executor
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import io_utils, path_utils

from mmkeras import prove
from mmkeras.errors import ExportMismatchError, UserError
from mmkeras.export.inference import load_settings
from mmkeras.export.saved_model import write_warmup
from mmkeras.export.verification import golden_batches, read_rows
from mmkeras.files import is_remote, join_path
from mmkeras.schema import ANALYSIS_FILE, CONFIG_FILE, MODEL_FILE, TEST
from pipeline.components.remote_sync import synced_folder

# As TFX's own InfraValidator names them, and Pusher looks for them.
BLESSED_FILE, NOT_BLESSED_FILE = "INFRA_BLESSED", "INFRA_NOT_BLESSED"
_BLESSED, _HAS_MODEL, _REASON = "blessed", "has_model", "reason"
_TIMEOUT_S = 1800.0  # 256 rows take some minutes where the model is large and no GPU
_LOGGED_LINES = 50


class InfraValidatorSpec(component_spec.ComponentSpec):
    """Inputs, outputs and parameters of the component."""

    PARAMETERS = {"code": component_spec.ExecutionParameter(type=str)}
    INPUTS = {
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "model_run": component_spec.ChannelParameter(type=standard_artifacts.ModelRun),
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS = {
        "blessing": component_spec.ChannelParameter(
            type=standard_artifacts.InfraBlessing
        )
    }


class Executor(base_executor.BaseExecutor):
    """Proves a copy of the model with warm-up requests, which Pusher then takes."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the copy and the verdict; a model that fails is a verdict too."""
        self._log_startup(input_dict, output_dict, exec_properties)
        model, run, examples = (
            artifact_utils.get_single_uri(input_dict[name])
            for name in ("model", "model_run", "examples")
        )
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        with (
            synced_folder(blessing.uri) as folder,
            tempfile.TemporaryDirectory() as name,
        ):
            copy = Path(path_utils.stamped_model_path(str(folder)))
            run_folder, rows = _run_folder(run, Path(name)), Path(name) / "rows"
            copy_rows(examples, rows)
            io_utils.copy_dir(path_utils.serving_model_path(model), str(copy))
            try:
                _warm_up(copy, run_folder, rows)
                proved = run_proof(copy, run_folder, rows)
            except (ExportMismatchError, UserError) as error:
                io_utils.delete_dir(str(copy))
                _mark_not_blessed(blessing, folder, str(error))
            else:
                _mark_blessed(blessing, folder, proved)


class InfraValidator(base_component.BaseComponent):
    """Component of the executor above; outputs `blessing`, with a model in it.

    No subclass of TFX's, which the Kubeflow runner refuses.
    """

    SPEC_CLASS = InfraValidatorSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self,
        *,
        model: types.BaseChannel,
        model_run: types.BaseChannel,
        examples: types.BaseChannel,
        code: str,
    ):
        """Builds the component.

        Args:
            model: The export.
            model_run: The run folder, with the model that the export was made of.
            examples: Rows with a split "test".
            code: Hash of the code; a new one runs it anew.
        """
        spec = InfraValidatorSpec(
            model=model,
            model_run=model_run,
            examples=examples,
            code=code,
            blessing=types.Channel(type=standard_artifacts.InfraBlessing),
        )
        super().__init__(spec=spec)


def _run_folder(uri: str, scratch: Path) -> Path:
    """Returns a local folder with the trained model."""
    if not is_remote(uri):
        return Path(uri)
    for name in (CONFIG_FILE, ANALYSIS_FILE, MODEL_FILE):
        fileio.copy(join_path(uri, name), str(scratch / name))
    return scratch


def copy_rows(uri: str, path: Path) -> None:
    """Copies the first test rows of the examples at `uri` to a TFRecord."""
    files = fileio.glob(join_path(uri, f"Split-{TEST}/*"))
    shards = sorted(f for f in files if not os.path.basename(f).startswith("."))
    records = tf.data.TFRecordDataset(tf.constant(shards, tf.string))
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records.take(prove.MOST_ROWS).as_numpy_iterator():
            writer.write(record)


def _warm_up(model: Path, run: Path, rows: Path) -> None:
    _, state = load_settings(run)
    read = read_rows(rows, state.modalities, prove.MOST_ROWS)
    write_warmup(golden_batches(read, state.modalities)["complete"], model)


def run_proof(model: Path, run: Path, rows: Path) -> str:
    """Runs `python -m mmkeras.prove`; returns what it has proved, in one line.

    Raises:
        ProofError: The export differs from the model, or kills the process.
        RuntimeError: There is no verdict: the proof took too long, was killed from
            outside (as for want of memory), or failed for a reason of its own.
    """
    command = [sys.executable, "-m", prove.__name__, "--model", str(model)]
    command += ["--run", str(run), "--rows", str(rows)]
    # Trainer may hold the memory of all GPUs in this very process.
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    try:
        done = subprocess.run(
            command, capture_output=True, env=environment, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as late:
        _lines(late.stderr)
        raise RuntimeError(f"The proof took more than {_TIMEOUT_S:,.0f} s.") from None
    said = _lines(done.stderr)
    if done.returncode < 0:
        name = signal.strsignal(-done.returncode)
        last = f": {said[-1]}" if said else "."
        if -done.returncode in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            raise RuntimeError(f"The proof was ended from outside ({name}){last}")
        raise ExportMismatchError(
            f"The model killed the process that ran it ({name}){last}"
        )
    if done.returncode:
        last = said[-1] if said else f"The proof ended with {done.returncode}."
        if not last.startswith("error: "):  # no refusal, but a fault of ours
            raise RuntimeError(last)
        raise ExportMismatchError(last.removeprefix("error: "))
    return done.stdout.decode(errors="replace").strip()


def _lines(output: bytes | None) -> list[str]:
    """Returns what a process has said, and logs the end of it."""
    lines = (output or b"").decode(errors="replace").strip().splitlines()
    for line in lines[-_LOGGED_LINES:]:
        logging.info("%s: %s", prove.__name__, line)
    return lines


def _mark_blessed(blessing: types.Artifact, folder: Path, proved: str) -> None:
    (folder / BLESSED_FILE).write_text(f"{proved}\n", encoding="utf-8")
    blessing.set_int_custom_property(_BLESSED, 1)
    blessing.set_int_custom_property(_HAS_MODEL, 1)


def _mark_not_blessed(blessing: types.Artifact, folder: Path, reason: str) -> None:
    logging.error("Not blessed: %s", reason)
    (folder / NOT_BLESSED_FILE).write_text(f"{reason}\n", encoding="utf-8")
    blessing.set_int_custom_property(_BLESSED, 0)
    blessing.set_string_custom_property(_REASON, reason)
