"""The rules by which versions come and go, without threads or time."""

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

BAD = not_found("no such file")


def lineup(*numbers):
    made = VersionStates("m")
    made.want({number: f"/m/{number}" for number in numbers})
    return made


def load(made, now_s=0.0):
    """Loads all that waits; returns the numbers, in the order of loading."""
    order = []
    while (version := made.to_load(now_s)) is not None:
        version.begin()
        version.succeed(object())
        order.append(version.number)
    return order


def numbers(versions):
    return [version.number for version in versions]


def test_the_highest_version_is_loaded_first():
    made = lineup(1, 3, 2)
    assert {v.state for v in made.versions.values()} == {START}
    assert load(made) == [3, 2, 1]
    assert numbers(made.available) == [1, 2, 3]
    assert made.to_unload() == []


def test_the_old_version_stays_until_the_new_one_serves():
    made = lineup(1)
    load(made)
    made.want({2: "/m/2"})
    assert made.to_unload() == [] and numbers(made.available) == [1]
    load(made)
    assert numbers(made.to_unload()) == [1]


def test_of_several_old_versions_only_the_latest_stays_meanwhile():
    made = lineup(1, 2, 3)
    load(made)
    made.want({4: "/m/4", 5: "/m/5"})
    assert numbers(made.to_unload()) == [1, 2]


def test_where_nothing_is_wanted_all_go():
    made = lineup(1, 2)
    load(made)
    made.want({})
    assert numbers(made.to_unload()) == [1, 2]


def test_the_old_version_serves_on_where_the_new_one_does_not_load():
    made = lineup(1)
    load(made)
    made.want({2: "/m/2"})
    made.to_load(0.0).begin()
    made.versions[2].fail(BAD, 0, 0.0)
    assert made.versions[2].state == END and made.versions[2].error is BAD
    assert made.to_unload() == []
    made.want({1: "/m/1"})  # it is taken from the disk again
    assert made.to_unload() == [] and made.serves


def test_a_failed_version_is_tried_again_after_a_while_and_then_given_up():
    made = lineup(1)
    for attempt in range(3):
        now_s = 100.0 + 10.0 * attempt
        assert made.retry_in_s(now_s - 4.0) == (4.0 if attempt else 0.0)
        made.to_load(now_s).begin()
        assert made.versions[1].state == LOADING and made.retry_in_s(now_s) is None
        made.versions[1].fail(BAD, 2, now_s + 10.0)
        assert made.to_load(now_s + 9.0) is None
    assert made.versions[1].state == END and made.versions[1].failures == 3
    assert made.to_load(1e9) is None and made.retry_in_s(0.0) is None


def test_another_version_is_loaded_while_a_failed_one_waits():
    made = lineup(1, 2)
    made.to_load(0.0).begin()
    made.versions[2].fail(BAD, 5, 60.0)
    assert made.to_load(0.0).number == 1


def test_a_failed_version_begins_anew_only_when_it_was_away_or_lies_elsewhere():
    made = lineup(1)
    made.to_load(0.0).begin()
    made.versions[1].fail(BAD, 0, 0.0)
    made.want({1: "/m/1"})
    assert made.versions[1].state == END
    made.want({1: "/elsewhere/1"})
    assert made.versions[1].state == START
    made.to_load(0.0).begin()
    made.versions[1].fail(BAD, 0, 0.0)
    made.want({})
    assert made.versions[1].state == END
    made.want({1: "/elsewhere/1"})
    assert made.versions[1].state == START and made.versions[1].failures == 0


def test_what_waits_to_be_loaded_is_loaded_from_where_it_lies_by_now():
    made = lineup(1)
    made.want({1: "/elsewhere/1"})
    assert made.to_load(0.0).location == "/elsewhere/1"


def test_a_version_that_serves_goes_on_wherever_its_number_lies_by_now():
    made = lineup(1)
    load(made)
    made.want({1: "/elsewhere/1"})
    assert made.versions[1].state == AVAILABLE and made.versions[1].wanted


def test_what_nobody_waits_for_is_given_up_before_it_was_loaded():
    made = lineup(1, 2)
    made.to_load(0.0).begin()
    made.versions[2].fail(BAD, 5, 60.0)
    made.want({})
    assert [made.versions[n].state for n in (1, 2)] == [END, END]
    assert made.versions[2].error is BAD and made.versions[1].error is None


def test_what_is_loaded_when_nobody_wants_it_any_more_never_serves():
    made = lineup(1)
    version = made.to_load(0.0)
    version.begin()
    made.want({})
    assert version.state == LOADING and made.is_busy
    assert not version.succeed("servable")
    assert version.state == UNLOADING and made.available == [] and made.is_busy
    version.retire()
    assert version.state == END and not made.is_busy
    assert version.error.message == "Loading of servable cancelled"


def test_what_is_being_loaded_from_elsewhere_is_not_taken_for_the_new_one():
    made = lineup(1)
    old = made.to_load(0.0)
    old.begin()
    made.want({1: "/elsewhere/1"})
    assert made.versions[1] is old and not old.succeed("servable")
    old.retire()
    made.want({1: "/elsewhere/1"})
    assert made.versions[1].state == START


def test_a_version_on_its_way_out_comes_again_when_it_is_gone():
    made = lineup(1)
    load(made)
    made.want({})
    (version,) = made.to_unload()
    version.state = UNLOADING
    made.want({1: "/m/1"})
    assert made.versions[1] is version and not version.wanted
    version.retire()
    made.want({1: "/m/1"})
    assert made.versions[1] is not version and made.versions[1].state == START


@pytest.mark.parametrize("good", [True, False])
def test_a_model_is_settled_when_one_version_serves_or_none_ever_will(good):
    made = lineup()
    assert not made.is_settled
    made.want({1: "/m/1", 2: "/m/2"})
    for retry_at_s in (0.0, 0.0):
        assert not made.is_settled
        made.to_load(0.0).begin()
        version = next(v for v in made.versions.values() if v.in_loader)
        if good and version.number == 1:
            version.succeed("servable")
        else:
            version.fail(BAD, 0, retry_at_s)
    assert made.is_settled and made.serves == good
    if not good:
        assert made.failure() == (
            "{name: m version: 2} due to error: NOT_FOUND: no such file"
        )
