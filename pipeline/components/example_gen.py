"""ExampleGen: TFX component that ingests a table and its media files in Beam.

One process plans the shards and writes the plan to files. Beam's workers then read and
write the shards, with the functions of `mmkeras.data`.
"""

import json
import pickle
import tempfile
from contextlib import suppress
from dataclasses import replace
from typing import Any

import apache_beam as beam
from tfx.components.util import examples_utils
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils

from mmkeras.config import Config, from_dict
from mmkeras.data.dataset import bad_rows_csv, summarize_shards
from mmkeras.data.example_reader import RowReader
from mmkeras.data.ingest_plan import BadRow, IngestPlan, Shard, plan_ingest
from mmkeras.data.shards import ShardSummary, write_shard
from mmkeras.data.table import Row, check_columns
from mmkeras.data.tables import Embedded
from mmkeras.export.inference import load_settings
from mmkeras.files import join_path, read_json
from mmkeras.modalities.file import Unreadable
from mmkeras.schema import (
    ANALYSIS_FILE,
    CONFIG_FILE,
    INGESTED_FILE,
    REJECTED_FILE,
    TEST,
)
from pipeline.components.artifacts import RejectedRows
from pipeline.components.custom_component import CustomComponent, make_spec

FORMAT_TF_EXAMPLE = example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE
_PLAN_DIR, _SUMMARY_DIR = "plan", "summary"


class Executor(BaseBeamExecutor):
    """Plans and summarizes in this process; reads and writes in Beam."""

    def Do(self, input_dict, output_dict, exec_properties) -> None:
        """Writes the examples of a table.

        Raises:
            UserError: The table cannot be used, or `on_bad_row` forbids its bad rows.
        """
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        rejected = artifact_utils.get_single_instance(output_dict["rejected"])
        config = from_dict(json.loads(exec_properties["config"]))
        plan = _plan(exec_properties["table"], config, input_dict.get("model_run"))
        _write_plan(plan, examples.uri)
        with self._make_beam_pipeline() as pipeline:
            write = WriteShard(examples.uri, plan.folder, plan.config)
            (
                pipeline
                | "Shards" >> beam.Create(range(len(plan.shards)))
                | "ToAnyWorker" >> beam.Reshuffle()
                | "Write" >> beam.ParDo(write)
            )
        summaries = _read_summaries(len(plan.shards), examples.uri)
        content = summarize_shards(plan, summaries)
        for folder in (_PLAN_DIR, _SUMMARY_DIR):
            fileio.rmtree(join_path(examples.uri, folder))
        for path in fileio.glob(join_path(examples.uri, "Split-*/.*")):
            fileio.remove(path)  # left by a lost worker; TFX would read it
        _write_json(content, examples.uri, INGESTED_FILE)
        bad = [BadRow(**row) for row in content["rejected"]]
        path = join_path(rejected.uri, REJECTED_FILE)
        io_utils.write_string_file(path, bad_rows_csv(bad))
        rejected.set_int_custom_property("rows", len(bad))
        splits = [split for split, rows in content["rows"].items() if rows]
        examples_utils.set_payload_format(examples, FORMAT_TF_EXAMPLE)
        examples.split_names = artifact_utils.encode_split_names(splits)
        examples.set_string_custom_property("content", content["content"])
        for split in splits:
            examples.set_int_custom_property(f"rows_{split}", content["rows"][split])


class WriteShard(beam.DoFn):
    """Reads the rows of a shard and writes its file; may run more than once."""

    def __init__(self, uri: str, folder: str, config: Config):
        self._uri, self._folder, self._config = uri, folder, config

    def setup(self):
        self._reader = RowReader(self._folder, self._config)

    def process(self, number: int):
        shard = _read_shard(number, self._uri)
        summary = write_shard(shard, self._uri, self._reader)
        _write_json(vars(summary), self._uri, f"{_SUMMARY_DIR}/{number:05d}.json")
        yield number


class TableExampleGen(CustomComponent, BaseBeamComponent):
    """Component of the executor above; `config` is `ingest_settings` as JSON.

    A new `fingerprint` of the table and its files runs it again. With the `model_run`
    of the model that predicts the rows, they need no labels.
    """

    SPEC_CLASS = make_spec(
        inputs={"model_run": standard_artifacts.ModelRun},
        optional=("model_run",),
        outputs={"examples": standard_artifacts.Examples, "rejected": RejectedRows},
        parameters={"table": str, "config": str, "fingerprint": str, "code": str},
    )
    EXECUTOR_SPEC = BeamExecutorSpec(Executor)


def _plan(table: str, config: Config, model_run) -> IngestPlan:
    if not model_run:
        return plan_ingest(table, config)
    with tempfile.TemporaryDirectory() as folder:
        for name in (CONFIG_FILE, ANALYSIS_FILE):
            source = join_path(artifact_utils.get_single_uri(model_run), name)
            fileio.copy(source, join_path(folder, name))
        trained_model, _ = load_settings(folder)
    check_columns(table, list(trained_model.columns))
    config = replace(trained_model, table=config.table, on_bad_row=config.on_bad_row)
    return plan_ingest(table, config, only=TEST, labeled=False)


def _write_plan(plan: IngestPlan, uri: str) -> None:
    splits = {f"Split-{shard.split}" for shard in plan.shards}
    for folder in (_PLAN_DIR, _SUMMARY_DIR, *splits):
        fileio.makedirs(join_path(uri, folder))
    for number, shard in enumerate(plan.shards):
        rows = tuple(map(_with_contents, shard.rows))
        with fileio.open(join_path(uri, f"{_PLAN_DIR}/{number:05d}"), "wb") as file:
            file.write(pickle.dumps(replace(shard, rows=rows)))


def _with_contents(row: Row) -> Row:
    """Returns a row without cells in files that only this machine has."""
    cells = dict(row.cells)
    for name, cell in cells.items():
        if isinstance(cell, Embedded):
            with suppress(Unreadable):  # reported when the row is read
                cells[name] = cell.read()
    return replace(row, cells=cells)


def _read_shard(number: int, uri: str) -> Shard:
    with fileio.open(join_path(uri, f"{_PLAN_DIR}/{number:05d}"), "rb") as file:
        return pickle.loads(file.read())


def _read_summaries(count: int, uri: str) -> list[ShardSummary]:
    names = (f"{_SUMMARY_DIR}/{number:05d}.json" for number in range(count))
    return [ShardSummary(**read_json(uri, name)) for name in names]


def _write_json(content: Any, uri: str, name: str) -> None:
    io_utils.write_string_file(join_path(uri, name), json.dumps(content))
