import pytest

from serving.server.errors import not_found
from serving.server.models.version_states import (
    AVAILABLE,
    END,
    LOADING,
    START,
    UNLOADING,
    VersionStates,
)

ERROR = not_found("no such file")


def make_states(*numbers, loaded=False):
    states = VersionStates("m")
    states.set_desired_versions({number: f"/m/{number}" for number in numbers})
    if loaded:
        load(states)
    return states


def load(states):
    """Loads all waiting versions; returns their numbers in the order of loading."""
    order = []
    while (version := states.next_to_load(0.0)) is not None:
        version.mark_loading()
        version.mark_loaded(object())
        order.append(version.number)
    return order


def fail(states, retries=0, retry_at_s=0.0):
    """Lets the next load fail; returns its version."""
    version = states.next_to_load(0.0)
    version.mark_loading()
    version.mark_failed(ERROR, retries, retry_at_s)
    return version


def numbers(versions):
    return [version.number for version in versions]


def test_the_highest_version_is_loaded_first():
    states = make_states(1, 3, 2)
    assert {v.state for v in states.versions.values()} == {START}
    assert load(states) == [3, 2, 1]
    assert numbers(states.available) == [1, 2, 3]
    assert states.to_unload() == []


def test_the_old_version_stays_until_the_new_one_is_available():
    states = make_states(1, loaded=True)
    states.set_desired_versions({2: "/m/2"})
    assert states.to_unload() == [] and numbers(states.available) == [1]
    load(states)
    assert numbers(states.to_unload()) == [1]


def test_only_the_latest_of_several_old_versions_stays_meanwhile():
    states = make_states(1, 2, 3, loaded=True)
    states.set_desired_versions({4: "/m/4", 5: "/m/5"})
    assert numbers(states.to_unload()) == [1, 2]
    states.set_desired_versions({})
    assert numbers(states.to_unload()) == [1, 2, 3]


def test_the_old_version_stays_if_the_new_one_does_not_load():
    states = make_states(1, loaded=True)
    states.set_desired_versions({2: "/m/2"})
    version = fail(states)
    assert version.number == 2 and version.state == END and version.error is ERROR
    assert states.to_unload() == []
    states.set_desired_versions({1: "/m/1"})
    assert states.to_unload() == [] and states.serves


def test_a_failed_version_is_retried_after_a_time_and_a_number_of_times():
    states = make_states(1)
    version = states.versions[1]
    for attempt in range(3):
        now_s = 100.0 + 10.0 * attempt
        assert states.retry_in_s(now_s - 4.0) == (4.0 if attempt else 0.0)
        states.next_to_load(now_s).mark_loading()
        assert version.state == LOADING and states.retry_in_s(now_s) is None
        version.mark_failed(ERROR, 2, now_s + 10.0)
        assert states.next_to_load(now_s + 9.0) is None
    assert version.state == END and version.failures == 3
    assert states.next_to_load(1e9) is None and states.retry_in_s(0.0) is None


def test_another_version_is_loaded_while_a_failed_one_waits():
    states = make_states(1, 2)
    fail(states, retries=5, retry_at_s=60.0)
    assert states.next_to_load(0.0).number == 1
    states.set_desired_versions({})  # ends both, the failed one with its error
    assert {v.state for v in states.versions.values()} == {END}
    assert states.versions[2].error is ERROR and states.versions[1].error is None


def test_a_failed_version_starts_anew_after_a_removal_or_at_a_new_location():
    states = make_states(1)
    fail(states)
    states.set_desired_versions({1: "/m/1"})
    assert states.versions[1].state == END
    states.set_desired_versions({1: "/new/1"})
    assert states.versions[1].state == START
    fail(states)
    states.set_desired_versions({})
    assert states.versions[1].state == END
    states.set_desired_versions({1: "/new/1"})
    assert states.versions[1].state == START and states.versions[1].failures == 0


def test_a_new_location_counts_for_waiting_but_not_for_available_versions():
    states = make_states(1)
    states.set_desired_versions({1: "/new/1"})
    assert states.next_to_load(0.0).location == "/new/1"
    load(states)
    states.set_desired_versions({1: "/other/1"})
    version = states.versions[1]
    assert version.state == AVAILABLE and version.desired
    assert version.location == "/new/1"


def test_a_version_that_is_undesired_while_it_loads_is_never_available():
    states = make_states(1)
    version = states.next_to_load(0.0)
    version.mark_loading()
    states.set_desired_versions({})
    assert version.state == LOADING and states.is_busy
    assert not version.mark_loaded("servable")
    assert version.state == UNLOADING and states.available == [] and states.is_busy
    version.mark_unloaded()
    assert version.state == END and not states.is_busy
    assert version.error.message == "Loading of servable cancelled"


def test_a_version_that_loads_from_an_old_location_is_replaced_after_its_end():
    states = make_states(1)
    old = states.next_to_load(0.0)
    old.mark_loading()
    states.set_desired_versions({1: "/new/1"})
    assert states.versions[1] is old and not old.mark_loaded("servable")
    old.mark_unloaded()
    states.set_desired_versions({1: "/new/1"})
    assert states.versions[1].state == START


def test_an_unloading_version_starts_anew_after_its_end():
    states = make_states(1, loaded=True)
    states.set_desired_versions({})
    (version,) = states.to_unload()
    version.state = UNLOADING
    states.set_desired_versions({1: "/m/1"})
    assert states.versions[1] is version and not version.desired
    version.mark_unloaded()
    states.set_desired_versions({1: "/m/1"})
    assert states.versions[1] is not version and states.versions[1].state == START


@pytest.mark.parametrize("is_good", [True, False])
def test_a_model_is_settled_when_one_version_is_available_or_all_have_failed(is_good):
    states = make_states()
    assert not states.is_settled
    states.set_desired_versions({1: "/m/1", 2: "/m/2"})
    assert fail(states).number == 2 and not states.is_settled
    load(states) if is_good else fail(states)
    assert states.is_settled and states.serves == is_good
    if not is_good:
        assert states.failure() == (
            "{name: m version: 2} due to error: NOT_FOUND: no such file"
        )
