"""What runs: the components and how they are wired, without a path or a runner."""

import json
from dataclasses import asdict, dataclass

from tfx import types
from tfx.components import (
    BulkInferrer,
    ExampleValidator,
    StatisticsGen,
    Trainer,
    Tuner,
)
from tfx.dsl.components.base.base_node import BaseNode
from tfx.proto import bulk_inferrer_pb2, pusher_pb2, trainer_pb2

from mmkeras.config import Config, to_dict
from mmkeras.schema import CLASSIFY, TEST, TRAIN, VAL
from pipeline.components.data_gate import DataGate
from pipeline.components.evaluator import build_evaluator
from pipeline.components.example_gen import TableExampleGen
from pipeline.components.infra_validator import InfraValidator
from pipeline.components.media_statistics import MediaStatistics
from pipeline.components.pusher import AtomicPusher
from pipeline.components.schema_gen import PersistentSchemaGen, statistics_options
from pipeline.components.transform import AnalyzingTransform
from pipeline.fingerprint import code_hash
from pipeline.settings import PipelineConfig, ingest_settings, transform_settings

PIPELINE_NAME = "mmkeras"
UNLABELED = "UnlabeledExampleGen"


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """A table, and what tells whether what is read has changed since.

    Attributes:
        table: CSV file, local or a URI.
        fingerprint: Hash of the table and the files that it names.
        files: Hash of the files that settings name.
    """

    table: str
    fingerprint: str
    files: str = ""


@dataclass(frozen=True, kw_only=True)
class OutputPaths:
    """Where a run reads and writes beside its artifacts.

    Attributes:
        schema_file: Schema that rows are held against, once it is there.
        edited: `schema_gen.edited_hash` of it.
        serving_dir: Base path that TF Serving polls.
        newest_version: That lies there now, "" for none.
    """

    schema_file: str
    edited: str
    serving_dir: str
    newest_version: str


def build_training(
    source: DataSource, config: PipelineConfig, places: OutputPaths
) -> dict[str, BaseNode]:
    """Builds the components up to the trained model, by id."""
    plain, ingest_only = config.plain, as_json(ingest_settings(config))
    example_gen = TableExampleGen(
        table=source.table,
        config=ingest_only,
        fingerprint=source.fingerprint,
        code=code_hash("pipeline.components.example_gen"),
    ).with_id("ExampleGen")
    examples = example_gen.outputs["examples"]
    statistics_gen = StatisticsGen(
        examples=examples, stats_options=statistics_options()
    )
    statistics = statistics_gen.outputs["statistics"]
    schema_gen = PersistentSchemaGen(
        statistics=statistics,
        schema_file=places.schema_file,
        edited=places.edited,
        presence_slack=config.checks.presence_slack,
        code=code_hash("pipeline.components.schema_gen"),
    ).with_id("SchemaGen")
    schema = schema_gen.outputs["schema"]
    validator = ExampleValidator(statistics=statistics, schema=schema)
    media = MediaStatistics(
        examples=examples, code=code_hash("pipeline.components.media_statistics")
    )
    gate = DataGate(
        examples=examples,
        anomalies=validator.outputs["anomalies"],
        media_statistics=media.outputs["media_statistics"],
        schema=schema,
        schema_file=places.schema_file,
        checks=json.dumps(asdict(config.checks)),
        code=code_hash("pipeline.components.data_gate"),
    )
    transform = AnalyzingTransform(
        examples=examples,
        schema=schema,
        config=as_json(transform_settings(config)),
        code=code_hash("pipeline.components.transform"),
    ).with_id("Transform")
    transform.add_upstream_node(gate)
    nodes = [example_gen, statistics_gen, schema_gen, validator, media, gate, transform]
    found = {"hyperparameters": None}
    inputs = {
        "examples": examples,
        "transform_graph": transform.outputs["transform_graph"],
        "train_args": trainer_pb2.TrainArgs(splits=[TRAIN]),
        "eval_args": trainer_pb2.EvalArgs(splits=[VAL]),
    }
    if config.tune.trials:
        nodes.append(_tuner(source, config, inputs))
        found["hyperparameters"] = nodes[-1].outputs["best_hyperparameters"]
    custom = {"config": as_json(plain), "data": source.table, "files": source.files}
    custom["code"] = code_hash("pipeline.components.trainer")
    run_fn = "pipeline.components.trainer.run_fn"
    nodes.append(Trainer(run_fn=run_fn, custom_config=custom, **inputs, **found))
    return {node.id: node for node in nodes}


def _tuner(source: DataSource, config: PipelineConfig, inputs) -> Tuner:
    custom = {
        "config": as_json(config.plain),
        "tune": json.dumps(asdict(config.tune)),
        "files": source.files,
        "code": code_hash("pipeline.components.tuner"),
    }
    return Tuner(
        tuner_fn="pipeline.components.tuner.tuner_fn", custom_config=custom, **inputs
    )


def build_release(
    nodes: dict[str, BaseNode],
    config: PipelineConfig,
    places: OutputPaths,
    baseline: types.BaseChannel | None,
) -> dict[str, BaseNode]:
    """Builds what judges the trained model of `nodes` and pushes it, by id.

    Args:
        nodes: As `build_training` gave them.
        config: Of which the gate counts.
        places: Where it is pushed to.
        baseline: Channel of the last blessed model; None where there is none.
    """
    examples = nodes["ExampleGen"].outputs["examples"]
    trained_model = nodes["Trainer"].outputs
    evaluator = build_evaluator(
        examples,
        trained_model["model"],
        baseline,
        config,
        code_hash("pipeline.components.evaluator"),
    )
    infra = InfraValidator(
        model=trained_model["model"],
        model_run=trained_model["model_run"],
        examples=examples,
        code=code_hash("pipeline.components.infra_validator"),
    )
    pusher = AtomicPusher(
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=infra.outputs["blessing"],
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(
                base_directory=places.serving_dir
            )
        ),
        custom_config={"newest_version": places.newest_version},
    ).with_id("Pusher")
    return {node.id: node for node in (evaluator, infra, pusher)}


def build_inference(
    nodes: dict[str, BaseNode], config: PipelineConfig, unlabeled: DataSource
) -> dict[str, BaseNode]:
    """Builds what answers a table without labels by the blessed model, by id."""
    trained_model = nodes["Trainer"].outputs
    example_gen = TableExampleGen(
        table=unlabeled.table,
        config=as_json(ingest_settings(config)),
        fingerprint=unlabeled.fingerprint,
        code=code_hash("pipeline.components.example_gen"),
        model_run=trained_model["model_run"],
    ).with_id(UNLABELED)
    inferrer = BulkInferrer(
        examples=example_gen.outputs["examples"],
        model=trained_model["model"],
        model_blessing=nodes["Evaluator"].outputs["blessing"],
        data_spec=bulk_inferrer_pb2.DataSpec(example_splits=[TEST]),
        model_spec=bulk_inferrer_pb2.ModelSpec(model_signature_name=[CLASSIFY]),
    )
    return {node.id: node for node in (example_gen, inferrer)}


def as_json(config: Config) -> str:
    """Returns settings as a parameter of a component holds them."""
    return json.dumps(to_dict(config), sort_keys=True)
