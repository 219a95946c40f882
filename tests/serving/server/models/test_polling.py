import pytest

from serving.server.models.polling import Poller
from tests.serving.server.assertions import wait_until


@pytest.fixture
def poll():
    """Starts a poller; returns it with the lines of its log."""
    pollers = []

    def start(check, interval_s=0.001):
        lines = []
        pollers.append(Poller(check, interval_s, lines.append))
        return pollers[-1], lines

    yield start
    for poller in pollers:
        poller.stop()


def test_a_problem_or_exception_is_logged_once_until_it_is_gone(poll):
    rounds = []

    def check():
        rounds.append(1)
        if len(rounds) % 100 > 50:
            yield from ["a", "b", "a"]
            raise KeyError("bug")

    _, lines = poll(check)
    wait_until(lambda: len(rounds) > 90)
    assert lines[:2] == ["a", "b"] and "KeyError: 'bug'" in lines[2]
    wait_until(lambda: len(rounds) > 190)
    assert lines == 2 * lines[:3]


def test_a_poller_checks_at_once_when_woken_and_not_after_its_stop(poll):
    rounds = []
    poller, _ = poll(lambda: rounds.append(1) or [], interval_s=1e6)
    wait_until(lambda: len(rounds) == 1)
    poller.wakes.set()
    wait_until(lambda: len(rounds) == 2)
    poller.stop()
    poller.wakes.set()
    assert len(rounds) == 2
