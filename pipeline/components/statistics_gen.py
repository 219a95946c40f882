"""Data statistics of TFX (StatisticsGen), with the features of media left out."""

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tfx import types
from tfx.components import StatisticsGen
from tfx.components.statistics_gen import executor
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.types import artifact_utils
from tfx.types import standard_component_specs as specs

from mmkeras.config import Config
from mmkeras.data.dataset import load_dataset
from mmkeras.files import join_path, read_json
from mmkeras.modalities.column import Column
from mmkeras.modalities.columns import build_columns
from mmkeras.schema import INGESTED_FILE, feature_name

MAX_CLASSES = 10_000  # nobody edits a longer list by hand


def read_columns(examples: types.Artifact) -> tuple[Column, ...]:
    """Returns the columns of ExampleGen's output, with default settings."""
    columns = read_json(examples.uri, INGESTED_FILE)["columns"]
    return build_columns(Config(columns=columns))


def read_task(examples: types.Artifact) -> str:
    """Returns the task that the labels of ExampleGen's output were read for."""
    return load_dataset(examples.uri).task


def statistics_options() -> tfdv.StatsOptions:
    """Returns options that count all classes by name; TFDV's default is 1,000."""
    return tfdv.StatsOptions(
        num_rank_histogram_buckets=MAX_CLASSES,
        num_quantiles_histogram_buckets=20,  # 5 % each
    )


class Executor(executor.Executor):
    """TFX's executor, with a schema of the columns that hold files."""

    def Do(self, input_dict, output_dict, exec_properties) -> None:
        """Writes the statistics of each split."""
        examples = artifact_utils.get_single_instance(input_dict[specs.EXAMPLES_KEY])
        options = tfdv.StatsOptions.from_json(
            exec_properties[specs.STATS_OPTIONS_JSON_KEY]
        )
        options.schema = schema_pb2.Schema()
        for column in filter(lambda column: column.has_files, read_columns(examples)):
            name = feature_name(column.name)
            feature = options.schema.feature.add(name=name, type=schema_pb2.BYTES)
            feature.image_domain.SetInParent()
        properties = {specs.STATS_OPTIONS_JSON_KEY: options.to_json()}
        super().Do(input_dict, output_dict, exec_properties | properties)


class ColumnStatisticsGen(StatisticsGen):
    """Component of the executor above; its `stats_options` are `statistics_options`."""

    EXECUTOR_SPEC = BeamExecutorSpec(Executor)


def read_statistics(
    artifact: types.Artifact,
) -> dict[str, statistics_pb2.DatasetFeatureStatisticsList]:
    """Reads the component's output, by split."""
    result = {}
    for split in artifact_utils.decode_split_names(artifact.split_names):
        uri = artifact_utils.get_split_uri([artifact], split)
        result[split] = tfdv.load_stats_binary(join_path(uri, "FeatureStats.pb"))
    return result
