"""Trained run, its model, data set and metrics, shared by the tests of evaluation."""

import json

import pytest

from mmkeras.data.dataset import load_dataset
from mmkeras.export.inference import load_trained
from tests import table_factory


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return table_factory.trained_run(tmp_path_factory)[0]


@pytest.fixture(scope="session")
def trained_model(folder):
    return load_trained(folder)


@pytest.fixture(scope="session")
def dataset(folder):
    fingerprint = json.loads((folder / "manifest.json").read_text())["fingerprint"]
    return load_dataset(folder.parent / "cache" / f"table-{fingerprint}")


@pytest.fixture
def metrics(folder):
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
