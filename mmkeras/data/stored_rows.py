"""Rows of ingested tables, read from TFRecord files."""

from collections.abc import Iterable, Sequence

import tensorflow as tf

from mmkeras.modalities.column import Column
from mmkeras.modalities.preprocessor import column_feature
from mmkeras.schema import ID, LABEL, STATUS, feature_name

AUTOTUNE = tf.data.AUTOTUNE
# For functions that are graph code already; converting them would take seconds.
no_autograph = tf.autograph.experimental.do_not_convert
COLUMNS = "columns"  # in a row: its values by column


def dataset_options() -> tf.data.Options:
    """Returns the options of all data sets: in a fixed order, without autotuning."""
    options, policy = tf.data.Options(), tf.data.experimental.AutoShardPolicy.DATA
    options.deterministic = True
    # With autotuning, deleting an iterator may wait for as long as it was in use: the
    # tuning thread can miss its notification (TensorFlow 2.16 to 2.21). Without,
    # AUTOTUNE is one call per core.
    options.autotune.enabled = False
    options.experimental_distribute.auto_shard_policy = policy
    return options


def read_rows(files: Sequence[str], columns: Iterable[Column]) -> tf.data.Dataset:
    """Reads tf.Examples in order: id, label, status, and under COLUMNS () values.

    Raises:
        tf.errors.DataLossError: A shard is damaged.
    """
    columns = {c.name: column_feature(c) for c in columns}
    text = tf.io.FixedLenFeature([], tf.string, "")
    features = dict.fromkeys((ID, LABEL, STATUS), text)
    features |= {feature_name(name): feature for name, feature in columns.items()}

    @no_autograph
    def parse(records):
        row = tf.io.parse_example(records, features)
        values = {name: row.pop(feature_name(name)) for name in columns}
        return {**row, COLUMNS: values}

    records = tf.data.TFRecordDataset(list(files)).batch(64)
    return records.map(parse, AUTOTUNE).unbatch().with_options(dataset_options())


def is_present(value: tf.Tensor) -> tf.Tensor:
    """Returns () bool: whether a row has a column of this () value."""
    return value != "" if value.dtype == tf.string else ~tf.math.is_nan(value)
