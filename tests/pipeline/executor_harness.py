"""Runs executors of the pipeline on artifacts in a folder, without an orchestrator."""

import json
from functools import cache
from pathlib import Path

from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import standard_artifacts

from mmkeras.config import Config, to_dict
from pipeline.components import example_gen
from pipeline.components.artifacts import RejectedRows
from tests import table_factory

IN_MEMORY = ()  # Beam in this process, its default


def context(folder: Path, beam_args=IN_MEMORY) -> BaseBeamExecutor.Context:
    """What an executor is given by its launcher."""
    temporary = folder / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    return BaseBeamExecutor.Context(
        beam_pipeline_args=list(beam_args), tmp_dir=str(temporary), unique_id="1"
    )


def artifact(kind: type, uri: Path | str):
    """An artifact of some type, whose folder is there."""
    made = kind()
    made.uri = str(uri)
    if "://" not in str(uri):
        Path(uri).mkdir(parents=True, exist_ok=True)
    return made


def examples_of(table: Path, config: Config, folder: Path, **how):
    """Ingests a table through the pipeline: (examples, rejected rows)."""
    examples = artifact(standard_artifacts.Examples, folder / "examples")
    rejected = artifact(RejectedRows, folder / "rejected")
    given = {"model_run": how["model_run"]} if "model_run" in how else {}
    example_gen.Executor(context(folder, how.get("beam_args", IN_MEMORY))).Do(
        given,
        {"examples": [examples], "rejected": [rejected]},
        {"table": str(table), "config": json.dumps(to_dict(config))},
    )
    return examples, rejected


@cache
def small(base: Path):
    """A small table, its settings and its examples, ingested once."""
    rows = table_factory.make_rows()
    rows[3]["audio"], rows[4]["text"] = "", ""
    table = table_factory.write_table(base / "data" / "data.csv", rows)
    config = table_factory.tiny_config(base / "cache")
    examples, _ = examples_of(table, config, base / "pipeline")
    return table, config, examples
