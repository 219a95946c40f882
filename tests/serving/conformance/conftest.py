"""A server of two models, and what the clients that nobody here wrote answer."""

from functools import cache

import pytest

from tests import table_factory
from tests.serving.conformance import clients, jobs
from tests.serving.conformance.environments import Unavailable
from tests.serving.conformance.jobs import CLASSIFIER, HALVES
from tests.serving.twin import serving


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    return table_factory.trained_run(tmp_path_factory)[0] / "export"


@pytest.fixture(scope="module")
def doors(tmp_path_factory, export):
    folder = tmp_path_factory.mktemp("conformance")
    models = {HALVES: jobs.save_half_plus_two(folder / HALVES), CLASSIFIER: export}
    with serving(models, folder / "log") as doors:
        yield doors


@pytest.fixture(scope="module")
def answers_of(doors):
    """answers_of(client): what its script answers, which runs once."""

    @cache
    def answers(client):
        try:
            return clients.ask(client, jobs.job(doors))
        except Unavailable as error:
            pytest.fail(str(error), pytrace=False)

    return answers
