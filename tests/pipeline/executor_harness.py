"""Executors of the pipeline run on artifacts in a folder, without an orchestrator."""

import json
from functools import cache
from pathlib import Path

import tensorflow as tf
from tfx.components.example_validator import executor as example_validator
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import artifact_utils, standard_artifacts

from mmkeras.config import Config, to_dict
from mmkeras.data.dataset import load_dataset, with_columns
from pipeline.components import (
    data_gate,
    example_gen,
    media_statistics,
    schema_gen,
    statistics_gen,
    transform,
)
from pipeline.components.artifacts import DataBlessing, MediaStatistics, RejectedRows
from tests import table_factory

IN_MEMORY = ()  # Beam in this process, its default


def context(folder: Path, beam_args=IN_MEMORY) -> BaseBeamExecutor.Context:
    """Returns the context that TFX's launcher gives an executor."""
    temporary = folder / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    return BaseBeamExecutor.Context(
        beam_pipeline_args=list(beam_args), tmp_dir=str(temporary), unique_id="1"
    )


def artifact(kind: type, uri: Path | str):
    """Returns an artifact of a type, and creates its folder."""
    result = kind()
    result.uri = str(uri)
    if "://" not in str(uri):
        Path(uri).mkdir(parents=True, exist_ok=True)
    return result


def artifacts(folder: Path, **kinds: type) -> dict[str, list]:
    """Returns artifacts by key, as an executor receives them, in subfolders."""
    return {key: [artifact(kind, folder / key)] for key, kind in kinds.items()}


def serialized_example(**features) -> bytes:
    """Returns a serialized tf.Example."""
    kinds = {bytes: ("bytes_list", tf.train.BytesList)}
    kinds[int] = ("int64_list", tf.train.Int64List)
    kinds[float] = ("float_list", tf.train.FloatList)
    feature = {}
    for name, value in features.items():
        kind, values = kinds[type(value)]
        feature[name] = tf.train.Feature(**{kind: values(value=[value])})
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    return example.SerializeToString()


def write_examples(folder: Path, shards=1, **splits) -> standard_artifacts.Examples:
    """Writes serialized tf.Examples, by split, as an artifact."""
    examples = artifact(standard_artifacts.Examples, folder)
    examples.split_names = artifact_utils.encode_split_names(list(splits))
    examples.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
    for split, records in splits.items():
        path = folder / f"Split-{split}"
        path.mkdir()
        size = -(-len(records) // shards)
        for shard in range(shards):
            with tf.io.TFRecordWriter(str(path / f"data-{shard}.tfrecord")) as writer:
                for record in records[shard * size : (shard + 1) * size]:
                    writer.write(record)
    return examples


def examples_of(table: Path, config: Config, folder: Path, **options):
    """Ingests a table by TableExampleGen: (examples, rejected rows)."""
    inputs = {"model_run": options["model_run"]} if "model_run" in options else {}
    outputs = artifacts(
        folder, examples=standard_artifacts.Examples, rejected=RejectedRows
    )
    example_gen.Executor(context(folder, options.get("beam_args", IN_MEMORY))).Do(
        inputs, outputs, {"table": str(table), "config": json.dumps(to_dict(config))}
    )
    return outputs["examples"][0], outputs["rejected"][0]


def stored_records(dataset) -> dict[str, list[bytes]]:
    """Returns the serialized tf.Examples of each split, in their order."""
    return {
        split: list(tf.data.TFRecordDataset(dataset.files(split)).as_numpy_iterator())
        for split in dataset.rows
    }


def statistics_of(examples, folder: Path):
    """Runs StatisticsGen on examples with the pipeline's options."""
    statistics = artifact(standard_artifacts.ExampleStatistics, folder / "stats")
    statistics_gen.Executor(context(folder)).Do(
        {"examples": [examples]},
        {"statistics": [statistics]},
        {"stats_options_json": statistics_gen.statistics_options().to_json()},
    )
    return statistics


def schema_of(examples, statistics, folder: Path):
    """Runs SchemaGen on examples and their statistics."""
    schema = artifact(standard_artifacts.Schema, folder / "schema")
    schema_gen.Executor().Do(
        {"examples": [examples], "statistics": [statistics]},
        {"schema": [schema]},
        {"schema_file": str(folder / "none"), "presence_slack": 0.2},
    )
    return schema


def pass_gate(examples, statistics, schema, folder: Path) -> None:
    """Runs the validation of the examples, their media statistics and the data gate."""
    outputs = artifacts(
        folder,
        anomalies=standard_artifacts.ExampleAnomalies,
        media_statistics=MediaStatistics,
        blessing=DataBlessing,
    )
    inputs = {"examples": [examples], "statistics": [statistics], "schema": [schema]}
    example_validator.Executor(context(folder)).Do(inputs, outputs, {})
    media_statistics.Executor(context(folder)).Do(inputs, outputs, {"code": ""})
    properties = {"checks": "{}", "schema_file": "", "code": ""}
    data_gate.Executor(context(folder)).Do(inputs | outputs, outputs, properties)


def transformed(examples, config: Config, folder: Path, beam_args=IN_MEMORY):
    """Runs StatisticsGen, SchemaGen and Transform: (transform graph, its state)."""
    schema = schema_of(examples, statistics_of(examples, folder), folder)
    output = artifacts(folder, transform_graph=standard_artifacts.TransformGraph)
    settings = {"config": json.dumps(to_dict(config)), "code": ""}
    transform.Executor(context(folder, beam_args)).Do(
        {"examples": [examples], "schema": [schema]},
        output,
        {
            "preprocessing_fn": "pipeline.components.transform.preprocessing_fn",
            "custom_config": json.dumps(settings),
            "disable_statistics": 1,
        },
    )
    (graph,), dataset = output["transform_graph"], load_dataset(examples.uri)
    return graph, transform.read_analysis(graph.uri, with_columns(config, dataset))


@cache
def small(base: Path):
    """Ingests a small table once per session: (table, config, examples)."""
    rows = table_factory.make_rows()
    rows[3]["audio"], rows[4]["text"] = "", ""
    table = table_factory.write_table(base / "data" / "data.csv", rows)
    config = table_factory.tiny_config(base / "cache")
    examples, _ = examples_of(table, config, base / "pipeline")
    return table, config, examples


@cache
def small_transformed(base: Path):
    """Runs Transform on `small` once per session: (transform graph, its state)."""
    _, config, examples = small(base)
    return transformed(examples, config, base / "transformed")
