"""The text protos that TF Serving reads, by its own messages."""

import pytest
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    text_format,
    wrappers_pb2,
)

from mmkeras.environment.protobuf import class_of
from mmkeras.errors import UserError
from serving.deploy import models_file, rollout
from tests.serving.deploy.files import DEPLOY

CONFIG = DEPLOY / "config"
GCS = DEPLOY / "kubernetes" / "overlays" / "gcs" / "models.config"
# Source: session_bundle_config.proto and monitoring_config.proto of TensorFlow Serving
# 2.16.1, whose Python package has neither.
INT64, STRING = ".google.protobuf.Int64Value", ".google.protobuf.StringValue"
BATCHING = {
    "max_batch_size": INT64,
    "batch_timeout_micros": INT64,
    "max_enqueued_batches": INT64,
    "num_batch_threads": INT64,
    "thread_pool_name": STRING,
    "allowed_batch_sizes": "repeated int64",
    "pad_variable_length_inputs": "bool",
    "enable_large_batch_splitting": ".google.protobuf.BoolValue",
}
MESSAGES = {
    "BatchingParameters": BATCHING,
    "PrometheusConfig": {"enable": "bool", "path": "string"},
    "MonitoringConfig": {"prometheus_config": ".test.PrometheusConfig"},
}


@pytest.fixture(scope="module")
def messages():
    """{name: class} of the messages above."""
    Field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="test.proto",
        package="test",
        dependency=["google/protobuf/wrappers.proto"],
        syntax="proto3",
    )
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), start=1):
            added = message.field.add(name=field, number=number, label=1)
            if kind.startswith("repeated "):
                added.label, kind = Field.LABEL_REPEATED, kind.split()[1]
            if kind.startswith("."):
                added.type, added.type_name = Field.TYPE_MESSAGE, kind
            else:
                added.type = Field.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return {
        name: class_of(pool.FindMessageTypeByName(f"test.{name}")) for name in MESSAGES
    }


@pytest.fixture(scope="module")
def batching(messages):
    text = (CONFIG / "batching.config").read_text()
    return text_format.Parse(text, messages["BatchingParameters"]())


def test_the_largest_allowed_batch_is_the_largest_batch(batching):
    sizes = list(batching.allowed_batch_sizes)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == batching.max_batch_size.value


def test_a_request_waits_less_than_a_model_takes_and_the_queue_is_bounded(batching):
    assert 0 < batching.batch_timeout_micros.value <= 10_000
    assert 0 < batching.max_enqueued_batches.value <= 100


@pytest.mark.parametrize(
    "broken", ["max_batch_sizes { value: 1 }", "max_batch_size: 1"]
)
def test_a_broken_batching_file_does_not_parse(messages, broken):
    with pytest.raises(text_format.ParseError):
        text_format.Parse(broken, messages["BatchingParameters"]())


def test_metrics_are_on_where_prometheus_looks(messages):
    text = (CONFIG / "monitoring.config").read_text()
    config = text_format.Parse(text, messages["MonitoringConfig"]())
    assert config.prometheus_config.enable
    assert config.prometheus_config.path == "/monitoring/prometheus/metrics"


@pytest.mark.parametrize("path", [*sorted(CONFIG.glob("models*.config")), GCS])
def test_every_list_of_models_serves_mmkeras_from_an_absolute_path(path):
    model = models_file.find_model(models_file.read_models(path), "mmkeras")
    assert model.base_path.startswith(("/models/", "gs://"))
    assert model.model_platform == "tensorflow"


def test_each_label_of_the_variant_is_a_version_that_it_serves():
    config = models_file.read_models(CONFIG / "models.labels.config")
    model = models_file.find_model(config, "mmkeras")
    assert set(model.version_labels) == {rollout.STABLE, rollout.CANARY}
    assert set(model.version_labels.values()) == set(rollout.versions(model))


def test_the_bucket_differs_from_the_volume_in_its_base_path_only():
    ours, theirs = (
        models_file.read_models(path) for path in (CONFIG / "models.config", GCS)
    )
    models_file.find_model(theirs, "mmkeras").base_path = "/models/mmkeras"
    assert ours == theirs


def test_a_list_of_models_with_an_unknown_field_is_refused(tmp_path):
    path = tmp_path / "models.config"
    text = (CONFIG / "models.config").read_text()
    path.write_text(text.replace("base_path", "base_paths"))
    with pytest.raises(UserError, match="is no model_config_list"):
        models_file.read_models(path)
