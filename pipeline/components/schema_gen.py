"""SchemaGen: what rows must be like, inferred from the first or kept from before."""

import hashlib
from collections.abc import Iterable
from typing import Any

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tfx import types
from tfx.dsl.components.base import base_component, base_executor
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import io_utils

from mmkeras.files import join_path
from mmkeras.schema import AUDIO, IMAGE, LABEL, LABEL_SEPARATOR, MODALITIES, SPLIT

SCHEMA_FILE = "schema.pbtxt"
_MOST_CLASSES = 10_000  # more are no list that a person curates
_KEPT = "# Inferred by mmkeras. Edit it freely: rows are then held against it."


def statistics_options() -> tfdv.StatsOptions:
    """Returns options that keep StatisticsGen from counting pictures as words."""
    schema = schema_pb2.Schema()
    for modality in (IMAGE, AUDIO):
        feature = schema.feature.add(name=modality, type=schema_pb2.BYTES)
        feature.image_domain.SetInParent()
    # All classes are counted by name; TFDV's default keeps the 1,000 most frequent.
    return tfdv.StatsOptions(schema=schema, num_rank_histogram_buckets=_MOST_CLASSES)


def infer_schema(
    statistics: dict[str, statistics_pb2.DatasetFeatureStatisticsList], slack: float
) -> schema_pb2.Schema:
    """Infers a schema from the statistics of each split.

    Classes are listed; a modality may be absent, in at most `slack` more of the rows
    than here; texts, identifiers and what media are like may be anything.
    """
    schema = None
    for split in statistics.values():
        if schema is None:
            schema = tfdv.infer_schema(
                split, infer_feature_shape=False, max_string_domain_size=_MOST_CLASSES
            )
        else:
            schema = tfdv.update_schema(
                schema, split, False, max_string_domain_size=_MOST_CLASSES
            )
    shares = _presence(statistics)
    for feature in schema.feature:
        feature.ClearField("lifecycle_stage")  # "deprecated" where one split lacks it
        if feature.name not in (LABEL, SPLIT):
            _forget_domain(schema, feature)
        if feature.name == LABEL:
            _list_classes(schema, feature)
        if feature.name in (IMAGE, AUDIO):
            feature.image_domain.SetInParent()
        if feature.name in MODALITIES:
            least = max(0.0, shares.get(feature.name, 0.0) - slack)
            feature.presence.min_fraction = round(least, 4)
            feature.presence.min_count = 1 if least else 0
        elif feature.name not in (LABEL, SPLIT):
            feature.ClearField("presence")
            feature.ClearField("value_count")
    return schema


def _presence(statistics) -> dict[str, float]:
    """Returns the smallest share of rows with each feature, over the splits."""
    found = []
    for split in statistics.values():
        (dataset,) = split.datasets
        shares = {}
        for feature in dataset.features:
            rows = getattr(feature, feature.WhichOneof("stats")).common_stats
            share = rows.num_non_missing / max(dataset.num_examples, 1)
            shares[feature.path.step[0]] = share
        found.append(shares)
    names = set().union(*found)
    return {name: min(shares.get(name, 0.0) for shares in found) for name in names}


def _list_classes(schema, feature) -> None:
    """Lists single classes where rows have several labels, and nobody combinations.

    TFDV then leaves the column alone, and `unknown_classes` looks at it.
    """
    domain = next((d for d in schema.string_domain if d.name == feature.domain), None)
    values = domain.value if domain else ()
    if any(LABEL_SEPARATOR in value for value in values):
        names = {n for value in values for n in value.split(LABEL_SEPARATOR)}
        feature.ClearField("domain_info")
        domain.value[:] = sorted(names)


def unknown_classes(schema: schema_pb2.Schema, labels: Iterable[str]) -> list[str]:
    """Returns the classes that rows with several labels have and the schema does not.

    `labels` are the values of the label column; a schema that TFDV holds them against
    itself gives none.
    """
    feature = next((f for f in schema.feature if f.name == LABEL), None)
    domain = next((d for d in schema.string_domain if d.name == LABEL), None)
    if feature is None or domain is None or feature.HasField("domain"):
        return []
    names = {n for value in labels for n in value.split(LABEL_SEPARATOR)}
    return sorted(names - set(domain.value))


def _forget_domain(schema, feature) -> None:
    name = feature.domain
    feature.ClearField("domain_info")
    kept = [d for d in schema.string_domain if d.name != name]
    del schema.string_domain[:]
    schema.string_domain.extend(kept)


def keep_schema(schema: schema_pb2.Schema, path: str, rows: str) -> None:
    """Writes a schema where later runs look for it, unless one is there.

    `rows` is the fingerprint of the rows that it was inferred from.
    """
    if fileio.exists(path):
        return
    text = tfdv.utils.schema_util.text_format.MessageToString(schema)
    io_utils.write_string_file(path, f"{_mark(text, rows)}\n{text}")


def _mark(text: str, rows: str) -> str:
    return f"{_KEPT} rows: {rows}, sha256: {_hash(text)}"


def edited_hash(path: str, rows: str) -> str:
    """Returns "" for no schema, or as `keep_schema` wrote it of `rows`; else its hash.

    So a second run on the same rows is answered from the cache, though the first one
    has left its schema behind; and other rows, or an edited schema, are not.
    """
    if not fileio.exists(path):
        return ""
    mark, _, text = io_utils.read_string_file(path).partition("\n")
    return "" if mark == _mark(text, rows) else _hash(mark + text)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class SchemaGenSpec(component_spec.ComponentSpec):
    """Inputs, outputs and parameters of the component."""

    PARAMETERS = {
        "schema_file": component_spec.ExecutionParameter(type=str),
        "edited": component_spec.ExecutionParameter(type=str),
        "presence_slack": component_spec.ExecutionParameter(type=float),
        "code": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        "statistics": component_spec.ChannelParameter(
            type=standard_artifacts.ExampleStatistics
        )
    }
    OUTPUTS = {
        "schema": component_spec.ChannelParameter(type=standard_artifacts.Schema)
    }


class Executor(base_executor.BaseExecutor):
    """Takes the schema file where there is one, else infers it."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the schema artifact."""
        path = exec_properties["schema_file"]
        if fileio.exists(path):
            schema = io_utils.parse_pbtxt_file(path, schema_pb2.Schema())
        else:
            artifact = artifact_utils.get_single_instance(input_dict["statistics"])
            schema = infer_schema(
                read_statistics(artifact), exec_properties["presence_slack"]
            )
        uri = artifact_utils.get_single_uri(output_dict["schema"])
        io_utils.write_pbtxt_file(join_path(uri, SCHEMA_FILE), schema)


def read_statistics(
    artifact: types.Artifact,
) -> dict[str, statistics_pb2.DatasetFeatureStatisticsList]:
    """Reads what StatisticsGen wrote of each split."""
    found = {}
    for split in artifact_utils.decode_split_names(artifact.split_names):
        uri = artifact_utils.get_split_uri([artifact], split)
        found[split] = tfdv.load_stats_binary(join_path(uri, "FeatureStats.pb"))
    return found


class PersistentSchemaGen(base_component.BaseComponent):
    """Component of the executor above."""

    SPEC_CLASS = SchemaGenSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self,
        *,
        statistics: types.BaseChannel,
        schema_file: str,
        edited: str,
        presence_slack: float,
        code: str,
    ):
        """Builds the component.

        Args:
            statistics: Of StatisticsGen.
            schema_file: Schema that rows are held against, where the file is there.
            edited: `edited_hash` of it and the rows.
            presence_slack: As `ChecksConfig` has it.
            code: Hash of the code; a new one runs it anew.
        """
        spec = SchemaGenSpec(
            statistics=statistics,
            schema_file=schema_file,
            edited=edited,
            presence_slack=presence_slack,
            code=code,
            schema=types.Channel(type=standard_artifacts.Schema),
        )
        super().__init__(spec=spec)
