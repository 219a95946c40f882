"""The tiny run that is trained once per session, its model, and a complete row."""

import pytest

from mmkeras.export.inference import load_trained
from tests import table_factory


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return table_factory.trained_run(tmp_path_factory)[0]


@pytest.fixture(scope="session")
def trained_model(folder):
    return load_trained(folder)


@pytest.fixture(scope="session")
def complete_row():
    return {
        "text": b"warm fire",
        "image": table_factory.image(),
        "audio": table_factory.tone(),
    }
