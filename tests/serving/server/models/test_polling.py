import pytest

from serving.server.models.polling import Poller
from tests.serving.server.assertions import wait_until


@pytest.fixture
def poll():
    """Starts pollers of the items 1 and 2."""
    pollers = []

    def start(check, lines, interval_s=0.001):
        pollers.append(Poller(check, lambda: [1, 2], interval_s, lines.append))
        return pollers[-1]

    yield start
    for poller in pollers:
        poller.stop()


def test_a_problem_is_logged_once_until_it_is_gone(poll):
    lines, rounds = [], []

    def check(item):
        rounds.append(item)
        return ["early", "late"] if len(rounds) < 20 else ["late"] * (item == 2)

    poll(check, lines)
    wait_until(lambda: len(rounds) > 30)
    assert lines == ["early", "late"]
    rounds.clear()
    wait_until(lambda: len(rounds) > 20)
    assert lines == ["early", "late", "early"]


def test_an_exception_for_one_item_is_logged_once_and_the_others_are_checked(poll):
    lines, items = [], []

    def check(item):
        items.append(item)
        return [] if item == 2 else 1 / 0

    poll(check, lines)
    wait_until(lambda: items.count(2) > 3)
    assert len(lines) == 1 and "ZeroDivisionError" in lines[0]


def test_a_poller_checks_at_once_when_woken_and_not_after_its_stop(poll):
    items = []
    poller = poll(lambda item: items.append(item) or [], [], interval_s=1e6)
    wait_until(lambda: items == [1, 2])
    poller.wake()
    wait_until(lambda: items == [1, 2, 1, 2])
    poller.stop()
    poller.wake()
    assert items == [1, 2, 1, 2]
