"""Tests of the state machine of one model, without threads."""

import pytest

from serving.server.errors import not_found
from serving.server.models import lifecycle
from serving.server.models.lifecycle import AVAILABLE, END, LOADING, START, Model

ERROR = not_found("no such file")


def desire(model, *numbers, folder="/m"):
    model.set_desired({number: f"{folder}/{number}" for number in numbers})
    return model


def start(model):
    """Starts the next load."""
    version = model.next_to_load(0.0)
    version.state, version.due_s = LOADING, None
    return version


def load(model):
    """Loads all waiting versions; returns their numbers in the order of loading."""
    order = []
    while model.next_to_load(0.0):
        version = start(model)
        version.finish_load("servable")
        order.append(version.version)
    return order


def fail(model, retries=0, retry_at_s=0.0):
    version = start(model)
    version.fail_load(ERROR, retries, retry_at_s)
    return version


def served(*numbers):
    load(model := desire(Model("m"), *numbers))
    return model


def unloads(model):
    return [version.version for version in model.update_available()]


def test_the_highest_version_is_loaded_first():
    model = desire(Model("m"), 1, 3, 2)
    assert {version.state for version in model.versions.values()} == {START}
    assert load(model) == [3, 2, 1]
    assert unloads(model) == [] and list(model.available) == [1, 2, 3]


def test_the_latest_old_version_stays_until_a_new_one_is_available():
    model = desire(served(1, 2, 3), 4, 5)
    assert unloads(model) == [1, 2]
    assert (fail(model).state, model.versions[5].error) == (END, ERROR)
    assert unloads(model) == [1, 2] and not model.serves
    load(model)
    assert unloads(model) == [1, 2, 3] and model.serves
    assert unloads(desire(model)) == [1, 2, 3, 4]
    assert unloads(desire(model, 2, 3)) == [1, 4]  # desired again


def test_a_failed_version_is_retried_after_a_time_and_a_number_of_times():
    version = fail(model := desire(Model("m"), 1, 2), 1, 60.0)
    assert (version.version, version.state, version.due_s) == (2, LOADING, 60.0)
    assert model.next_to_load(0.0).version == 1  # does not wait for the other
    assert model.next_to_load(60.0) is version
    assert fail(model := desire(Model("m"), 1), 1) is fail(model, 1)
    assert (model.versions[1].state, model.next_to_load(1e9)) == (END, None)


def test_a_version_that_waits_for_a_load_ends_when_it_is_withdrawn():
    fail(model := desire(Model("m"), 1, 2), 5, 60.0)
    desire(model)
    states = [(v.version, v.state, v.error) for v in model.versions.values()]
    assert states == [(1, END, None), (2, END, ERROR)] and not model.next_to_load(1e9)


def test_an_ended_version_starts_anew_after_a_removal_or_at_another_path():
    fail(model := desire(Model("m"), 1))
    assert desire(model, 1).versions[1].state == END
    assert desire(model, 1, folder="/new").versions[1].state == START
    fail(model)
    version = desire(desire(model), 1, folder="/new").versions[1]
    assert (version.state, version.failures) == (START, 0)


def test_another_path_counts_for_waiting_but_not_for_available_versions():
    load(model := desire(desire(Model("m"), 1), 1, folder="/new"))
    version = desire(model, 1).versions[1]
    assert (version.state, version.path) == (AVAILABLE, "/new/1") and version.desired


@pytest.mark.parametrize("change", [{}, {1: "/new/1"}])
def test_a_version_that_is_withdrawn_while_it_loads_is_never_available(change):
    version = start(model := desire(Model("m"), 1))
    model.set_desired(change)
    assert model.versions[1] is version and version.state == LOADING
    version.finish_load("servable")
    assert (unloads(model), model.available) == ([], {})
    assert version.error.message == "Loading of servable cancelled"


def test_an_unloading_version_starts_anew_after_its_end():
    version = (model := served(1)).versions[1]
    version.state = lifecycle.UNLOADING
    assert desire(model, 1).versions[1] is version and not version.desired
    version.state = END
    assert desire(model, 1).versions[1].state == START
