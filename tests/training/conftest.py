"""A run folder and a table of forty texts, for tests of a single run."""

from functools import partial

import pytest

from mmkeras.training.process_state import restored_state
from tests import table_factory


@pytest.fixture(scope="module", autouse=True)
def restored_after_module():
    with restored_state():
        yield


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "data" / "data.csv"
    return table_factory.write_table(path, table_factory.texts())


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def tiny_config(tmp_path):
    return partial(table_factory.tiny_config, tmp_path / "cache")
