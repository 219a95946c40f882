"""SchemaGen: TFX component that infers the schema of the rows or reads a saved one."""

import hashlib
from collections.abc import Iterable, Sequence

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils

from mmkeras.config.validation import AUTO
from mmkeras.files import join_path
from mmkeras.modalities.column import Column
from mmkeras.modalities.preprocessing_state import GENERATE, REGRESSION
from mmkeras.schema import LABEL, LABEL_SEPARATOR, SPLIT, feature_name
from pipeline.components.custom_component import CustomComponent, make_spec
from pipeline.components.statistics_gen import (
    MAX_CLASSES,
    read_columns,
    read_statistics,
    read_task,
)

SCHEMA_FILE = "schema.pbtxt"
_HEADER = "# Inferred by mmkeras. Edit it freely: rows are then held against it."


def infer_schema(
    statistics: dict[str, statistics_pb2.DatasetFeatureStatisticsList],
    columns: Sequence[Column],
    slack: float,
    task: str = AUTO,
) -> schema_pb2.Schema:
    """Infers a schema from the statistics of each split.

    The schema lists the classes, unless the `task` is regression or generate. A column
    may be absent in a share of the rows that is at most `slack` larger than here. All
    other features are unrestricted.
    """
    first, *others = statistics.values()
    limit = {"max_string_domain_size": MAX_CLASSES}
    schema = tfdv.infer_schema(first, infer_feature_shape=False, **limit)
    for split in others:
        schema = tfdv.update_schema(schema, split, False, **limit)
    shares = _presence(statistics)
    has_files = {feature_name(column.name): column.has_files for column in columns}
    listed = {SPLIT} if task in (REGRESSION, GENERATE) else {LABEL, SPLIT}
    for feature in schema.feature:
        feature.ClearField("lifecycle_stage")  # "deprecated" where one split lacks it
        if feature.name not in listed:
            _forget_domain(schema, feature)
        if feature.name == LABEL:
            _list_classes(schema, feature)
        if has_files.get(feature.name):
            feature.image_domain.SetInParent()
        if feature.name in has_files:
            minimum = max(0.0, shares.get(feature.name, 0.0) - slack)
            feature.presence.min_fraction = round(minimum, 4)
            feature.presence.min_count = 1 if minimum else 0
        elif feature.name not in (LABEL, SPLIT):
            feature.ClearField("presence")
            feature.ClearField("value_count")
    return schema


def _presence(statistics) -> dict[str, float]:
    """Returns the smallest share of rows with each feature over the splits."""
    splits = []
    for split in statistics.values():
        (dataset,) = split.datasets
        shares = {}
        for feature in dataset.features:
            rows = getattr(feature, feature.WhichOneof("stats")).common_stats
            share = rows.num_non_missing / max(dataset.num_examples, 1)
            shares[feature.path.step[0]] = share
        splits.append(shares)
    names = set().union(*splits)
    return {name: min(shares.get(name, 0.0) for shares in splits) for name in names}


def _list_classes(schema, feature) -> None:
    """Replaces combinations of labels by the list of single classes.

    TFDV then ignores the column, and `unknown_classes` checks it.
    """
    domain = next((d for d in schema.string_domain if d.name == feature.domain), None)
    values = domain.value if domain else ()
    if any(LABEL_SEPARATOR in value for value in values):
        names = {n for value in values for n in value.split(LABEL_SEPARATOR)}
        feature.ClearField("domain_info")
        domain.value[:] = sorted(names)


def unknown_classes(schema: schema_pb2.Schema, labels: Iterable[str]) -> list[str]:
    """Returns the classes in values of the label column that the schema lacks.

    Returns none if rows have single labels, since TFDV checks those itself.
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
    domains = [d for d in schema.string_domain if d.name != name]
    del schema.string_domain[:]
    schema.string_domain.extend(domains)


def keep_schema(schema: schema_pb2.Schema, path: str, rows: str) -> None:
    """Writes a schema file for later runs, unless the file exists.

    `rows` is the fingerprint of the rows that it was inferred from.
    """
    if fileio.exists(path):
        return
    text = tfdv.utils.schema_util.text_format.MessageToString(schema)
    io_utils.write_string_file(path, f"{_mark(text, rows)}\n{text}")


def _mark(text: str, rows: str) -> str:
    return f"{_HEADER} rows: {rows}, sha256: {_hash(text)}"


def edited_hash(path: str, rows: str) -> str:
    """Returns the hash of a schema file that was edited or belongs to other rows.

    Returns "" if there is no file or `keep_schema` wrote it for `rows`. A second run on
    the same rows therefore uses the cache, although the first one saved its schema.
    """
    if not fileio.exists(path):
        return ""
    mark, _, text = io_utils.read_string_file(path).partition("\n")
    return "" if mark == _mark(text, rows) else _hash(mark + text)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class Executor(BaseExecutor):
    """Copies the schema file if it exists, else infers a schema."""

    def Do(self, input_dict, output_dict, exec_properties) -> None:
        """Writes the schema artifact."""
        path = exec_properties["schema_file"]
        if fileio.exists(path):
            schema = io_utils.parse_pbtxt_file(path, schema_pb2.Schema())
        else:
            examples, statistics = (
                artifact_utils.get_single_instance(input_dict[name])
                for name in ("examples", "statistics")
            )
            slack = exec_properties["presence_slack"]
            columns, task = read_columns(examples), read_task(examples)
            schema = infer_schema(read_statistics(statistics), columns, slack, task)
        uri = artifact_utils.get_single_uri(output_dict["schema"])
        io_utils.write_pbtxt_file(join_path(uri, SCHEMA_FILE), schema)


class PersistentSchemaGen(CustomComponent, BaseComponent):
    """Component of the executor above; `statistics` is StatisticsGen's output.

    Rows are validated against `schema_file`, if it exists; `edited` is `edited_hash` of
    it and the rows.
    """

    SPEC_CLASS = make_spec(
        inputs={
            "examples": standard_artifacts.Examples,
            "statistics": standard_artifacts.ExampleStatistics,
        },
        outputs={"schema": standard_artifacts.Schema},
        parameters={
            "schema_file": str,
            "edited": str,
            "presence_slack": float,
            "code": str,
        },
    )
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)
