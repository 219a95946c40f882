import pytest
from google.protobuf import text_format
from hypothesis import example, given
from hypothesis import strategies as st
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from serving.server.models.versions import (
    Policy,
    Watcher,
    choose_versions,
    find_versions,
    parse_version,
)


def policy(text):
    return text_format.Parse(text, Policy())


def model(base_path, text=""):
    return ModelConfig(
        name="m", base_path=str(base_path), model_version_policy=policy(text)
    )


def make(folder, *names):
    for name in names:
        (folder / name).mkdir(parents=True)


@pytest.mark.parametrize(
    "name, number",
    [
        ("1", 1),
        ("007", 7),
        ("-3", -3),
        (" 5\n", 5),
        ("20240102030405", 20240102030405),
        ("0" * 40 + "9", 9),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("-9223372036854775808", -(2**63)),
        ("-9223372036854775809", None),
        ("9" * 5000, None),
        ("+1", None),
        ("1.0", None),
        ("1 2", None),
        ("1_000", None),
        ("v1", None),
        ("1.tmp", None),
        (".1", None),
        ("٣", None),
        ("", None),
        ("-", None),
    ],
)
def test_a_folder_is_a_version_if_tf_serving_reads_its_name_as_one(name, number):
    assert parse_version(name) == number


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 30), st.sampled_from(" \t\n\r"))
def test_each_number_of_64_bits_is_read_back(number, zeros, space):
    digits = f"{'-' if number < 0 else ''}{'0' * zeros}{abs(number)}"
    assert parse_version(space + digits + space) == number


@given(st.text(max_size=25) | st.text("0123456789-+ .", max_size=25))
@example("²")
def test_any_other_name_is_no_version(name):
    number = parse_version(name)
    if number is not None:
        assert name.strip(" \t\n\v\f\r").isascii() and number == int(name)
        assert -(2**63) <= number < 2**63


def test_versions_are_found_in_ascending_order(tmp_path):
    make(tmp_path, "10", "9", "notes", "3.tmp")
    (tmp_path / "11").write_text("a file counts, as in TF Serving")
    assert find_versions(str(tmp_path)) == ({9: "9", 10: "10", 11: "11"}, [])


def test_of_two_folders_of_one_version_the_last_counts_with_a_warning(tmp_path):
    make(tmp_path, "1", "01")
    found, warnings = find_versions(str(tmp_path))
    assert found == {1: "1"}
    assert warnings == [
        "Duplicate version directories detected. Version 1 will be loaded from 1, 01 "
        "will be ignored."
    ]


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("", [4]),
        ("latest {}", [4]),
        ("latest { num_versions: 2 }", [3, 4]),
        ("latest { num_versions: 9 }", [-1, 2, 3, 4]),
        ("all {}", [-1, 2, 3, 4]),
        ("specific { versions: 3 versions: 2 versions: 7 }", [2, 3]),
        ("specific {}", []),
    ],
)
def test_a_policy_chooses_among_what_is_there(text, wanted):
    assert choose_versions([3, -1, 4, 2], policy(text)) == wanted
    assert choose_versions([], policy(text)) == []


@given(st.sets(st.integers(-5, 20)), st.integers(0, 8))
def test_the_latest_versions_are_the_highest(found, count):
    wanted = choose_versions(list(found), policy(f"latest {{ num_versions: {count} }}"))
    assert len(wanted) == min(max(count, 1), len(found))
    assert all(other <= low for low in wanted[:1] for other in found - set(wanted))


def test_a_watcher_says_where_the_wanted_versions_lie(tmp_path):
    make(tmp_path, "1", "002")
    said = []
    assert Watcher(said.append).look(model(tmp_path, "all {}")) == {
        1: tmp_path / "1",
        2: tmp_path / "002",
    }
    assert said == []


def test_a_base_path_without_versions_is_said_once_until_it_has_had_one(tmp_path):
    said = []
    watcher, empty = Watcher(said.append), model(tmp_path)
    warning = (
        f"No versions of servable m found under base path {tmp_path}. Did you forget "
        "to name your leaf directory as a number (eg. '/1/')?"
    )
    assert watcher.look(empty) == watcher.look(empty) == {}
    assert said == [warning]
    make(tmp_path, "1")
    assert watcher.look(empty) == {1: tmp_path / "1"}
    (tmp_path / "1").rmdir()
    assert watcher.look(empty) == watcher.look(empty) == {}
    assert said == [warning] * 2


def test_a_missing_base_path_is_no_word_on_its_versions_and_is_said_once(tmp_path):
    said = []
    watcher, gone = Watcher(said.append), model(tmp_path / "gone")
    assert watcher.look(gone) is None and watcher.look(gone) is None
    assert said == [
        f"Could not find base path {tmp_path}/gone for servable m with error No such "
        "file or directory."
    ]


def test_a_specific_version_that_is_missing_is_named_once(tmp_path):
    make(tmp_path, "1")
    said = []
    watcher = Watcher(said.append)
    asked = model(tmp_path, "specific { versions: 1 versions: 8 }")
    assert watcher.look(asked) == watcher.look(asked) == {1: tmp_path / "1"}
    assert len(said) == 1 and said[0].startswith("Version 8 of servable m, which was")


def test_a_base_path_behind_a_uri_is_listed_by_tensorflow(tmp_path):
    make(tmp_path, "3")
    found = Watcher(print).look(model(f"file://{tmp_path}"))
    assert found == {3: f"file://{tmp_path}/3"}


def test_a_uri_that_nothing_here_opens_is_said_and_changes_nothing():
    said = []
    assert Watcher(said.append).look(model("nosuch://bucket/m")) is None
    assert "nosuch" in said[0]
