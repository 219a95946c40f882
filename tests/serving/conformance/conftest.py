"""A server of two models, and the results of third-party clients."""

from functools import cache

import pytest

from tests import table_factory
from tests.serving.conformance import clients, jobs
from tests.serving.conformance.jobs import CLASSIFIER, HALVES
from tests.serving.server_process import start_server


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    return table_factory.trained_run(tmp_path_factory)[0] / "export"


@pytest.fixture(scope="module")
def server(tmp_path_factory, halves, export):
    log = tmp_path_factory.mktemp("conformance") / "log"
    with start_server({HALVES: halves, CLASSIFIER: export}, log) as server:
        yield server


@pytest.fixture(scope="module")
def results_of(server):
    """results_of(client) -> results of its script, which runs once."""

    return cache(lambda client: clients.run_client(client, jobs.job(server)))
