"""Graph of the pipeline's components, without paths and without a runner."""

import json
from dataclasses import asdict, dataclass

from tfx import types
from tfx.components import BulkInferrer, ExampleValidator, Trainer, Tuner
from tfx.dsl.components.base.base_node import BaseNode
from tfx.proto import bulk_inferrer_pb2, pusher_pb2, trainer_pb2

from mmkeras.config import Config, to_dict
from mmkeras.export.example_signatures import example_signature
from mmkeras.schema import TEST, TRAIN, VAL
from pipeline.components.data_gate import DataGate
from pipeline.components.evaluator import Evaluator
from pipeline.components.example_gen import TableExampleGen
from pipeline.components.infra_validator import InfraValidator
from pipeline.components.media_statistics import MediaStatistics
from pipeline.components.pusher import AtomicPusher
from pipeline.components.schema_gen import PersistentSchemaGen
from pipeline.components.statistics_gen import ColumnStatisticsGen, statistics_options
from pipeline.components.transform import AnalyzingTransform
from pipeline.fingerprint import code_hash
from pipeline.settings import PipelineConfig, ingest_settings, transform_settings

PIPELINE_NAME = "mmkeras"
UNLABELED = "UnlabeledExampleGen"


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """Table with the hashes that decide whether cached results are still valid.

    Attributes:
        fingerprint: Hash of the table and the files that it names.
        files: Hash of the files that settings name.
    """

    table: str
    fingerprint: str
    files: str = ""


@dataclass(frozen=True, kw_only=True)
class OutputPaths:
    """Paths that a run reads and writes in addition to its artifacts.

    Attributes:
        schema_file: Schema to validate rows against, if the file exists.
        edited: `schema_gen.edited_hash` of the schema file.
        serving_dir: Base path that TF Serving polls.
        newest_version: Latest pushed version, or "".
    """

    schema_file: str
    edited: str
    serving_dir: str
    newest_version: str


def build_training(
    source: DataSource, config: PipelineConfig, paths: OutputPaths
) -> dict[str, BaseNode]:
    """Builds the components up to Trainer, by id."""
    nodes = _data_components(source, config, paths)
    examples = nodes["ExampleGen"].outputs["examples"]
    transform = AnalyzingTransform(
        examples=examples,
        schema=nodes["SchemaGen"].outputs["schema"],
        config=as_json(transform_settings(config)),
        code=_code("transform"),
    ).with_id("Transform")
    transform.add_upstream_node(nodes["DataGate"])
    inputs = {
        "examples": examples,
        "transform_graph": transform.outputs["transform_graph"],
        "train_args": trainer_pb2.TrainArgs(splits=[TRAIN]),
        "eval_args": trainer_pb2.EvalArgs(splits=[VAL]),
    }
    custom = {"config": as_json(config.plain), "files": source.files}
    new, hyperparameters = [transform], None
    if config.tune.trials:
        tune = {"tune": json.dumps(asdict(config.tune)), "code": _code("tuner")}
        tuner_fn = "pipeline.components.tuner.tuner_fn"
        new.append(Tuner(tuner_fn=tuner_fn, custom_config=custom | tune, **inputs))
        hyperparameters = new[-1].outputs["best_hyperparameters"]
    trainer = Trainer(
        run_fn="pipeline.components.trainer.run_fn",
        custom_config=custom | {"data": source.table, "code": _code("trainer")},
        hyperparameters=hyperparameters,
        **inputs,
    )
    return nodes | {node.id: node for node in (*new, trainer)}


def _data_components(
    source: DataSource, config: PipelineConfig, paths: OutputPaths
) -> dict[str, BaseNode]:
    """Builds the components up to DataGate, by id."""
    example_gen = TableExampleGen(
        table=source.table,
        config=as_json(ingest_settings(config)),
        fingerprint=source.fingerprint,
        code=_code("example_gen"),
    ).with_id("ExampleGen")
    examples = example_gen.outputs["examples"]
    statistics_gen = ColumnStatisticsGen(
        examples=examples, stats_options=statistics_options()
    ).with_id("StatisticsGen")
    statistics = statistics_gen.outputs["statistics"]
    schema_gen = PersistentSchemaGen(
        examples=examples,
        statistics=statistics,
        schema_file=paths.schema_file,
        edited=paths.edited,
        presence_slack=config.checks.presence_slack,
        code=_code("schema_gen"),
    ).with_id("SchemaGen")
    schema = schema_gen.outputs["schema"]
    validator = ExampleValidator(statistics=statistics, schema=schema)
    media = MediaStatistics(
        examples=examples, statistics=statistics, code=_code("media_statistics")
    )
    gate = DataGate(
        examples=examples,
        anomalies=validator.outputs["anomalies"],
        media_statistics=media.outputs["media_statistics"],
        schema=schema,
        schema_file=paths.schema_file,
        checks=json.dumps(asdict(config.checks)),
        code=_code("data_gate"),
    )
    nodes = (example_gen, statistics_gen, schema_gen, validator, media, gate)
    return {node.id: node for node in nodes}


def build_release(
    nodes: dict[str, BaseNode],
    config: PipelineConfig,
    paths: OutputPaths,
    baseline: types.BaseChannel | None,
) -> dict[str, BaseNode]:
    """Builds the components that validate and push the trained model, by id.

    `nodes` are those of `build_training`; `baseline` is the last blessed model, if any.
    """
    examples = nodes["ExampleGen"].outputs["examples"]
    trained_model = nodes["Trainer"].outputs
    evaluator = Evaluator(
        examples=examples,
        model=trained_model["model"],
        baseline_model=baseline,
        example_splits=json.dumps([TEST]),
        gate=json.dumps(asdict(config.gate)),
        code=_code("evaluator"),
    )
    infra = InfraValidator(
        model=trained_model["model"],
        model_run=trained_model["model_run"],
        examples=examples,
        code=_code("infra_validator"),
    )
    destination = pusher_pb2.PushDestination()
    destination.filesystem.base_directory = paths.serving_dir
    pusher = AtomicPusher(
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=infra.outputs["blessing"],
        push_destination=destination,
        custom_config={"newest_version": paths.newest_version},
    ).with_id("Pusher")
    return {node.id: node for node in (evaluator, infra, pusher)}


def build_inference(
    nodes: dict[str, BaseNode], config: PipelineConfig, unlabeled: DataSource
) -> dict[str, BaseNode]:
    """Builds the components that predict a table without labels, by id."""
    trained_model = nodes["Trainer"].outputs
    example_gen = TableExampleGen(
        table=unlabeled.table,
        config=as_json(ingest_settings(config)),
        fingerprint=unlabeled.fingerprint,
        code=_code("example_gen"),
        model_run=trained_model["model_run"],
    ).with_id(UNLABELED)
    inferrer = BulkInferrer(
        examples=example_gen.outputs["examples"],
        model=trained_model["model"],
        model_blessing=nodes["Evaluator"].outputs["blessing"],
        data_spec=bulk_inferrer_pb2.DataSpec(example_splits=[TEST]),
        model_spec=bulk_inferrer_pb2.ModelSpec(
            model_signature_name=[example_signature(config.task)]
        ),
    )
    return {node.id: node for node in (example_gen, inferrer)}


def as_json(config: Config) -> str:
    """Returns settings as the JSON text of a component's parameter."""
    return json.dumps(to_dict(config), sort_keys=True)


def _code(component: str) -> str:
    return code_hash(f"pipeline.components.{component}")
