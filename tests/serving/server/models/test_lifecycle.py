import pytest

from serving.server.errors import not_found
from serving.server.models.lifecycle import (
    AVAILABLE,
    END,
    LOADING,
    START,
    UNLOADING,
    Model,
)

ERROR = not_found("no such file")


def set_desired(model, *numbers, folder="/m"):
    model.set_desired({number: f"{folder}/{number}" for number in numbers})
    return model


def start(model):
    """Starts the next load."""
    version = model.next_to_load(0.0)
    version.state, version.in_loader = LOADING, True
    return version


def load(model):
    """Loads all waiting versions; returns their numbers in the order of loading."""
    order = []
    while model.next_to_load(0.0):
        version = start(model)
        version.finish_load(object())
        order.append(version.number)
    return order


def fail(model, retries=0, retry_at_s=0.0):
    version = start(model)
    version.fail_load(ERROR, retries, retry_at_s)
    return version


def served(*numbers):
    model = set_desired(Model("m"), *numbers)
    load(model)
    return model


def unloads(model):
    return [version.number for version in model.update_available()]


def test_the_highest_version_is_loaded_first():
    model = set_desired(Model("m"), 1, 3, 2)
    assert {version.state for version in model.versions.values()} == {START}
    assert load(model) == [3, 2, 1]
    assert unloads(model) == [] and list(model.available) == [1, 2, 3]


def test_the_latest_old_version_stays_until_a_new_one_is_available():
    model = set_desired(served(1, 2, 3), 4, 5)
    assert unloads(model) == [1, 2]
    version = fail(model)
    assert (version.number, version.state, version.error) == (5, END, ERROR)
    assert unloads(model) == [1, 2] and not model.serves
    load(model)
    assert unloads(model) == [1, 2, 3] and model.serves
    set_desired(model)
    assert unloads(model) == [1, 2, 3, 4]


def test_an_old_version_that_is_desired_again_stays():
    model = set_desired(set_desired(served(1), 2), 1)
    assert unloads(model) == [] and model.serves


def test_a_failed_version_is_retried_after_a_time_and_a_number_of_times():
    version = fail(set_desired(model := Model("m"), 1), 1, 100.0)
    assert (version.state, version.failures) == (LOADING, 1)
    assert model.next_to_load(50.0) is version and version.retry_at_s == 100.0
    assert fail(model, 1, 200.0) is version
    assert (version.state, version.failures) == (END, 2)
    assert model.next_to_load(1e9) is None


def test_another_version_is_loaded_while_a_failed_one_waits():
    fail(set_desired(model := Model("m"), 1, 2), 5, 60.0)
    assert model.next_to_load(0.0).number == 1
    assert model.next_to_load(60.0).number == 2
    set_desired(model)  # ends both, the failed one with its error
    assert {version.state for version in model.versions.values()} == {END}
    assert model.versions[2].error is ERROR and model.versions[1].error is None


def test_an_ended_version_starts_anew_after_a_removal_or_at_another_location():
    fail(set_desired(model := Model("m"), 1))
    assert set_desired(model, 1).versions[1].state == END
    assert set_desired(model, 1, folder="/new").versions[1].state == START
    fail(model)
    version = set_desired(set_desired(model), 1, folder="/new").versions[1]
    assert (version.state, version.failures) == (START, 0)


def test_another_location_counts_for_waiting_but_not_for_available_versions():
    model = set_desired(set_desired(Model("m"), 1), 1, folder="/new")
    load(model)
    version = set_desired(model, 1).versions[1]
    assert (version.state, version.location) == (AVAILABLE, "/new/1")
    assert version.desired


@pytest.mark.parametrize("change", [{}, {1: "/new/1"}])
def test_a_version_that_is_withdrawn_while_it_loads_is_never_available(change):
    version = start(set_desired(model := Model("m"), 1))
    model.set_desired(change)
    assert model.versions[1] is version and version.state == LOADING
    version.finish_load("servable")
    assert version.state == UNLOADING and unloads(model) == []
    assert model.available == {}
    assert version.error.message == "Loading of servable cancelled"


def test_an_unloading_version_starts_anew_after_its_end():
    model = set_desired(served(1))
    model.versions[1].state = UNLOADING
    version = set_desired(model, 1).versions[1]
    assert version.state == UNLOADING and not version.desired
    version.state = END
    assert set_desired(model, 1).versions[1].state == START


@pytest.mark.parametrize("is_good", [True, False])
def test_a_model_is_settled_when_one_version_is_available_or_all_have_failed(is_good):
    assert not (model := Model("m")).is_settled
    assert fail(set_desired(model, 1, 2)).number == 2 and not model.is_settled
    load(model) if is_good else fail(model)
    model.update_available()
    assert model.is_settled and model.serves == is_good
    error = "{name: m version: 2} due to error: NOT_FOUND: no such file"
    assert model.failure() == error
