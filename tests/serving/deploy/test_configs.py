"""Text protos of TF Serving, read as by its server."""

import re

import pytest

from serving.deploy import models_file, rollout
from serving.server.configs import read_batching, read_monitoring
from tests.serving.deploy.files import DEPLOY

CONFIG = DEPLOY / "config"
GCS = DEPLOY / "kubernetes" / "overlays" / "gcs" / "models.config"


# Source: session_bundle_config.proto of TensorFlow Serving 2.16.1.
BATCHING = {
    *("max_batch_size", "batch_timeout_micros", "max_enqueued_batches"),
    *("num_batch_threads", "thread_pool_name", "allowed_batch_sizes"),
    *("pad_variable_length_inputs", "enable_large_batch_splitting"),
}


def test_batching_is_bounded():
    names = re.findall(r"^\w+", (CONFIG / "batching.config").read_text(), re.MULTILINE)
    assert names and set(names) <= BATCHING
    batching = read_batching(CONFIG / "batching.config")
    assert batching.allowed_batch_sizes
    # A request waits less than a model takes.
    assert 0 < batching.batch_timeout_micros <= 10_000
    assert 0 < batching.max_enqueued_batches <= 100


def test_the_metrics_page_is_on():
    page = read_monitoring(CONFIG / "monitoring.config")
    assert page == "/monitoring/prometheus/metrics"


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
