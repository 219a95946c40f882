import pytest
import tensorflow as tf

from mmkeras.config import TextConfig
from mmkeras.data.stored_rows import COLUMNS, is_present, read_rows
from mmkeras.modalities.text.column import Text


def write_rows(path, examples):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for features in examples:
            features = {
                name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                for name, value in features.items()
            }
            features = tf.train.Features(feature=features)
            writer.write(tf.train.Example(features=features).SerializeToString())


@pytest.fixture
def file(tmp_path):
    rows = [{"id": b"a", "label": b"cat", "text": b"moo"}, {"id": b"b"}]
    write_rows(tmp_path / "rows", rows)
    return str(tmp_path / "rows")


def test_rows_are_read_in_order_with_absent_values(file):
    rows = list(read_rows([file], [Text("text", TextConfig())]).as_numpy_iterator())
    assert [row["id"] for row in rows] == [b"a", b"b"]
    assert [row["label"] for row in rows] == [b"cat", b""]
    assert [row[COLUMNS]["text"] for row in rows] == [b"moo", b""]


def test_a_damaged_shard_is_an_error_and_not_fewer_rows(file):
    with open(file, "rb+") as shard:
        shard.truncate(shard.seek(0, 2) - 5)
    with pytest.raises(tf.errors.DataLossError):
        list(read_rows([file], [Text("text", TextConfig())]))


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a", True), ("", False), (0.0, True), (float("nan"), False)],
)
def test_empty_strings_and_nan_are_absent(value, expected):
    assert bool(is_present(tf.constant(value))) is expected
