"""ExampleGen: a table and its media files -> checked tf.Examples, in Beam.

The plan of the shards is made by one process and lies in files; each shard is then
read and written by whichever worker gets it, with the plain program's own functions.
"""

import json
import tempfile
from dataclasses import asdict, replace
from typing import Any

import apache_beam as beam
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_component, base_beam_executor
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import io_utils

from mmkeras.config import Config, from_dict
from mmkeras.data.dataset import rejected_csv, summarize_shards
from mmkeras.data.example_reader import RowReader
from mmkeras.data.ingest_plan import BadRow, IngestPlan, Shard, plan_ingest
from mmkeras.data.shards import ShardSummary, write_shard
from mmkeras.data.table import Row
from mmkeras.export.inference import load_settings
from mmkeras.files import join_path, read_text
from mmkeras.schema import (
    ANALYSIS_FILE,
    CONFIG_FILE,
    INGESTED_FILE,
    REJECTED_FILE,
    TEST,
)
from pipeline.components.artifacts import RejectedRows

FORMAT_TF_EXAMPLE = example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE
_PLAN_DIR, _FOUND_DIR = "plan", "found"


class TableExampleGenSpec(component_spec.ComponentSpec):
    """Inputs, outputs and parameters of the component."""

    PARAMETERS = {
        "table": component_spec.ExecutionParameter(type=str),
        "config": component_spec.ExecutionParameter(type=str),
        "fingerprint": component_spec.ExecutionParameter(type=str),
        "code": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        "model_run": component_spec.ChannelParameter(
            type=standard_artifacts.ModelRun, optional=True
        )
    }
    OUTPUTS = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "rejected": component_spec.ChannelParameter(type=RejectedRows),
    }


class Executor(base_beam_executor.BaseBeamExecutor):
    """Plans in this process, reads and writes in Beam, sums up in this process."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the examples of a table.

        Raises:
            UserError: The table cannot be used, or has bad rows and may not.
        """
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        rejected = artifact_utils.get_single_instance(output_dict["rejected"])
        config = from_dict(json.loads(exec_properties["config"]))
        plan = _plan(exec_properties["table"], config, input_dict.get("model_run"))
        _write_plan(plan, examples.uri)
        with self._make_beam_pipeline() as pipeline:
            (
                pipeline
                | "Shards" >> beam.Create(range(len(plan.shards)))
                | "ToAnyWorker" >> beam.Reshuffle()
                | "Write"
                >> beam.ParDo(
                    WriteShard(examples.uri, plan.folder, plan.config, plan.widths)
                )
            )
        content = summarize_shards(plan, _read_founds(len(plan.shards), examples.uri))
        for folder in (_PLAN_DIR, _FOUND_DIR):
            fileio.rmtree(join_path(examples.uri, folder))
        for path in fileio.glob(join_path(examples.uri, "Split-*/.*")):
            fileio.remove(path)  # of a worker that was lost; TFX would read it
        _write_json(content, examples.uri, INGESTED_FILE)
        bad = [BadRow(**row) for row in content["rejected"]]
        io_utils.write_string_file(
            join_path(rejected.uri, REJECTED_FILE), rejected_csv(bad)
        )
        rejected.set_int_custom_property("rows", len(bad))
        splits = [split for split, rows in content["rows"].items() if rows]
        examples_utils.set_payload_format(examples, FORMAT_TF_EXAMPLE)
        examples.split_names = artifact_utils.encode_split_names(splits)
        examples.set_string_custom_property("content", content["content"])
        for split in splits:
            examples.set_int_custom_property(f"rows_{split}", content["rows"][split])


class WriteShard(beam.DoFn):
    """Reads the rows of a shard and writes its file; may run anywhere, and twice."""

    def __init__(self, uri: str, folder: str, config: Config, widths: dict[str, int]):
        self._uri, self._folder = uri, folder
        self._config, self._widths = config, widths

    def setup(self):
        self._reader = RowReader(self._folder, self._config, self._widths)

    def process(self, number: int):
        shard = _read_shard(number, self._uri)
        found = write_shard(shard, self._uri, self._reader)
        _write_json(vars(found), self._uri, _FOUND_DIR, f"{number:05d}.json")
        yield number


class TableExampleGen(base_beam_component.BaseBeamComponent):
    """Component of the executor above."""

    SPEC_CLASS = TableExampleGenSpec
    EXECUTOR_SPEC = BeamExecutorSpec(Executor)

    def __init__(
        self,
        *,
        table: str,
        config: str,
        fingerprint: str,
        code: str,
        model_run: types.BaseChannel | None = None,
    ):
        """Builds the component.

        Args:
            table: CSV file, local or a URI.
            config: `ingest_settings` as JSON.
            fingerprint: Hash of the table and its files; a new one runs it anew.
            code: Hash of the code; likewise.
            model_run: Of the model that is to answer the rows, which then need no
                labels; else the rows are for training.
        """
        spec = TableExampleGenSpec(
            table=table,
            config=config,
            fingerprint=fingerprint,
            code=code,
            model_run=model_run,
            examples=types.Channel(type=standard_artifacts.Examples),
            rejected=types.Channel(type=RejectedRows),
        )
        super().__init__(spec=spec)


def _plan(table: str, config: Config, model_run) -> IngestPlan:
    if not model_run:
        return plan_ingest(table, config)
    with tempfile.TemporaryDirectory() as folder:
        for name in (CONFIG_FILE, ANALYSIS_FILE):
            source = join_path(artifact_utils.get_single_uri(model_run), name)
            fileio.copy(source, join_path(folder, name))
        trained_model, state = load_settings(folder)
    names = ",".join(state.modalities)
    columns = replace(config.table, modalities=names)
    config = replace(trained_model, table=columns, on_bad_row=config.on_bad_row)
    return plan_ingest(table, config, only=TEST, widths=state.widths, labeled=False)


def _write_plan(plan: IngestPlan, uri: str) -> None:
    fileio.makedirs(uri)
    for split in {shard.split for shard in plan.shards}:
        fileio.makedirs(join_path(uri, f"Split-{split}"))
    for number, shard in enumerate(plan.shards):
        _write_json(asdict(shard), uri, _PLAN_DIR, f"{number:05d}.json")
    fileio.makedirs(join_path(uri, _FOUND_DIR))


def _read_shard(number: int, uri: str) -> Shard:
    content = _read_json(uri, _PLAN_DIR, f"{number:05d}.json")
    rows = (Row(**{**r, "labels": tuple(r["labels"])}) for r in content.pop("rows"))
    return Shard(**content, rows=tuple(rows))


def _read_founds(count: int, uri: str) -> list[ShardSummary]:
    names = (f"{number:05d}.json" for number in range(count))
    return [ShardSummary(**_read_json(uri, _FOUND_DIR, name)) for name in names]


def _write_json(content: Any, uri: str, *names: str) -> None:
    path = join_path(uri, "/".join(names))
    io_utils.write_string_file(path, json.dumps(content))


def _read_json(uri: str, *names: str) -> Any:
    return json.loads(read_text(join_path(uri, "/".join(names))))
