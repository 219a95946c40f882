"""InfraValidator: TFX component that verifies an export with TF Serving's C++ loader.

The verification runs in a subprocess, because a model may crash the process that
serves it, and then must not be pushed.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import tensorflow as tf
from absl import logging
from tfx import types
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils, path_utils

from mmkeras import prove
from mmkeras.errors import ExportMismatchError, UserError
from mmkeras.export.example_signatures import example_signature
from mmkeras.export.inference import load_settings
from mmkeras.export.saved_model import write_warmup
from mmkeras.export.verification import golden_batches, read_rows
from mmkeras.files import is_remote, join_path
from mmkeras.modalities.columns import build_columns
from mmkeras.schema import ANALYSIS_FILE, CONFIG_FILE, MODEL_FILE, TEST
from pipeline.components.custom_component import CustomComponent, make_spec
from pipeline.components.remote_sync import synced_folder

# Names of TFX's own InfraValidator, which Pusher reads.
BLESSED_FILE, NOT_BLESSED_FILE = "INFRA_BLESSED", "INFRA_NOT_BLESSED"
_BLESSED, _HAS_MODEL, _REASON = "blessed", "has_model", "reason"
_TIMEOUT_S = 1800.0  # 256 rows of a large model take minutes on a CPU
_LOGGED_LINES = 50


class Executor(BaseExecutor):
    """Verifies a copy of the model with warm-up requests, which Pusher then pushes."""

    def Do(self, input_dict, output_dict, exec_properties) -> None:
        """Writes the copy and the verdict; a model that fails is no error."""
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
                result = run_proof(copy, run_folder, rows)
            except (ExportMismatchError, UserError) as error:
                io_utils.delete_dir(str(copy))
                _mark_not_blessed(blessing, folder, str(error))
            else:
                _mark_blessed(blessing, folder, result)


class InfraValidator(CustomComponent, BaseComponent):
    """Component of the executor above; its output contains the verified model.

    It is no subclass of TFX's InfraValidator, which the Kubeflow runner rejects.
    """

    SPEC_CLASS = make_spec(
        inputs={
            "model": standard_artifacts.Model,
            "model_run": standard_artifacts.ModelRun,
            "examples": standard_artifacts.Examples,
        },
        outputs={"blessing": standard_artifacts.InfraBlessing},
        parameters={"code": str},
    )
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)


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
        for record in records.take(prove.MAX_ROWS).as_numpy_iterator():
            writer.write(record)


def _warm_up(model: Path, run: Path, rows: Path) -> None:
    config, state = load_settings(run)
    columns = {column.name: column for column in build_columns(config)}
    batches = golden_batches(read_rows(rows, columns, prove.MAX_ROWS), columns)
    signature = example_signature(state.task)
    write_warmup(batches["complete"], columns, model, signature)


def run_proof(model: Path, run: Path, rows: Path) -> str:
    """Runs `python -m mmkeras.prove` and returns its one-line result.

    Raises:
        ExportMismatchError: The export differs from the model, or crashes the process.
        RuntimeError: There is no verdict: the process timed out, was killed from
            outside (for instance for lack of memory), or failed otherwise.
    """
    command = [sys.executable, "-m", prove.__name__, "--model", str(model)]
    command += ["--run", str(run), "--rows", str(rows)]
    # Trainer may have allocated all GPU memory in this process.
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    try:
        process = subprocess.run(
            command, capture_output=True, env=environment, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        _log_lines(error.stderr)
        text = f"The verification took more than {_TIMEOUT_S:,.0f} s."
        raise RuntimeError(text) from None
    lines, code = _log_lines(process.stderr), process.returncode
    if code < 0:
        last = f": {lines[-1]}" if lines else "."
        reason = f"({signal.strsignal(-code)}){last}"
        if -code in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            raise RuntimeError(f"The verification was ended from outside {reason}")
        raise ExportMismatchError(f"The model crashed the process that ran it {reason}")
    if code:
        last = lines[-1] if lines else f"The verification exited with {code}."
        if not last.startswith("error: "):  # a bug, not a verdict
            raise RuntimeError(last)
        raise ExportMismatchError(last.removeprefix("error: "))
    return process.stdout.decode(errors="replace").strip()


def _log_lines(output: bytes | None) -> list[str]:
    """Logs the last lines of a process's output; returns all lines."""
    lines = (output or b"").decode(errors="replace").strip().splitlines()
    for line in lines[-_LOGGED_LINES:]:
        logging.info("%s: %s", prove.__name__, line)
    return lines


def _mark_blessed(blessing: types.Artifact, folder: Path, result: str) -> None:
    (folder / BLESSED_FILE).write_text(f"{result}\n", encoding="utf-8")
    blessing.set_int_custom_property(_BLESSED, 1)
    blessing.set_int_custom_property(_HAS_MODEL, 1)


def _mark_not_blessed(blessing: types.Artifact, folder: Path, reason: str) -> None:
    logging.error("Not blessed: %s", reason)
    (folder / NOT_BLESSED_FILE).write_text(f"{reason}\n", encoding="utf-8")
    blessing.set_int_custom_property(_BLESSED, 0)
    blessing.set_string_custom_property(_REASON, reason)
