"""Text protos of TF Serving, parsed as its own messages."""

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
# 2.16.1, which its Python package has not.
MESSAGES = {
    "BatchingParameters": {
        "max_batch_size": "Int64Value",
        "batch_timeout_micros": "Int64Value",
        "max_enqueued_batches": "Int64Value",
        "num_batch_threads": "Int64Value",
        "thread_pool_name": "StringValue",
        "allowed_batch_sizes": "repeated int64",
        "pad_variable_length_inputs": "bool",
        "enable_large_batch_splitting": "BoolValue",
    },
    "PrometheusConfig": {"enable": "bool", "path": "string"},
    "MonitoringConfig": {"prometheus_config": "PrometheusConfig"},
}


@pytest.fixture(scope="module")
def messages():
    """Name -> class of the messages above."""
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
            *repeated, kind = kind.split()
            added = message.field.add(name=field, number=number)
            added.label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
            if kind.islower():
                added.type = Field.Type.Value(f"TYPE_{kind.upper()}")
            else:
                package = "test" if kind in MESSAGES else "google.protobuf"
                added.type = Field.TYPE_MESSAGE
                added.type_name = f".{package}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return {
        name: class_of(pool.FindMessageTypeByName(f"test.{name}")) for name in MESSAGES
    }


def test_batching_is_bounded(messages):
    text = (CONFIG / "batching.config").read_text()
    batching = text_format.Parse(text, messages["BatchingParameters"]())
    sizes = list(batching.allowed_batch_sizes)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == batching.max_batch_size.value
    # A request waits less than a model takes.
    assert 0 < batching.batch_timeout_micros.value <= 10_000
    assert 0 < batching.max_enqueued_batches.value <= 100


@pytest.mark.parametrize("text", ["max_batch_sizes { value: 1 }", "max_batch_size: 1"])
def test_a_broken_batching_file_does_not_parse(messages, text):
    with pytest.raises(text_format.ParseError):
        text_format.Parse(text, messages["BatchingParameters"]())


def test_the_metrics_page_is_on(messages):
    text = (CONFIG / "monitoring.config").read_text()
    config = text_format.Parse(text, messages["MonitoringConfig"]())
    assert config.prometheus_config.enable
    assert config.prometheus_config.path == "/monitoring/prometheus/metrics"


@pytest.mark.parametrize("path", [*sorted(CONFIG.glob("models*.config")), GCS])
def test_every_list_of_models_has_mmkeras_on_an_absolute_path(path):
    model = models_file.find_model(models_file.read_models(path), "mmkeras")
    assert model.base_path.startswith(("/models/", "gs://"))
    assert model.model_platform == "tensorflow"


def test_each_label_is_of_a_version_that_is_served():
    config = models_file.read_models(CONFIG / "models.labels.config")
    model = models_file.find_model(config, "mmkeras")
    assert set(model.version_labels) == {rollout.STABLE, rollout.CANARY}
    assert set(model.version_labels.values()) == set(rollout.versions(model))


def test_the_list_for_a_bucket_has_another_base_path_only():
    config = models_file.read_models(GCS)
    models_file.find_model(config, "mmkeras").base_path = "/models/mmkeras"
    assert config == models_file.read_models(CONFIG / "models.config")


def test_a_list_of_models_with_an_unknown_field_is_refused(tmp_path):
    path = tmp_path / "models.config"
    text = (CONFIG / "models.config").read_text()
    path.write_text(text.replace("base_path", "base_paths"))
    with pytest.raises(UserError, match="not a model_config_list"):
        models_file.read_models(path)
