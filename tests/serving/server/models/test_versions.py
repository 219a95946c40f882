import pytest
from google.protobuf import text_format
from hypothesis import example, given
from hypothesis import strategies as st
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from serving.server.models.versions import (
    BasePathWatcher,
    Policy,
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


NUMBERS = ["1", "007", "-3", " 5\n", "20240102030405", "0" * 40 + "9"]
NUMBERS += [str(2**63 - 1), str(-(2**63))]
OTHER_NAMES = [str(2**63), str(-(2**63) - 1), "9" * 5000, "+1", "1.0", "1 2", "1_000"]
OTHER_NAMES += ["v1", "1.tmp", ".1", "٣", "", "-"]


@pytest.mark.parametrize(
    "name, number",
    [(name, int(name)) for name in NUMBERS] + [(name, None) for name in OTHER_NAMES],
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


def test_versions_are_listed_in_ascending_order(tmp_path):
    make(tmp_path, "10", "9", "notes", "3.tmp")
    (tmp_path / "11").write_text("a file counts, as in TF Serving")
    assert find_versions(str(tmp_path)) == ({9: "9", 10: "10", 11: "11"}, [])


def test_the_last_of_two_folders_of_one_version_counts_with_a_warning(tmp_path):
    make(tmp_path, "1", "01")
    folders, (warning,) = find_versions(str(tmp_path))
    assert folders == {1: "1"}
    assert "Version 1 will be loaded from 1, 01 will be ignored" in warning


@pytest.mark.parametrize(
    "text, chosen",
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
def test_a_policy_chooses_among_the_versions(text, chosen):
    assert choose_versions([3, -1, 4, 2], policy(text)) == chosen
    assert choose_versions([], policy(text)) == []


@given(st.sets(st.integers(-5, 20)), st.integers(0, 8))
def test_the_latest_versions_are_the_highest(versions, count):
    text = f"latest {{ num_versions: {count} }}"
    chosen = choose_versions(list(versions), policy(text))
    assert chosen == sorted(versions)[len(versions) - len(chosen) :]
    assert len(chosen) == min(max(count, 1), len(versions))


@pytest.fixture
def lines():
    return []


@pytest.fixture
def check(lines):
    """Checks a base path with one watcher; log lines go to `lines`."""
    watcher = BasePathWatcher(lines.append)
    return lambda *args: watcher.check_base_path(model(*args))


def test_a_watcher_returns_the_folders_of_the_versions(check, lines, tmp_path):
    make(tmp_path, "1", "002")
    folders = {1: tmp_path / "1", 2: tmp_path / "002"}
    assert check(tmp_path, "all {}") == folders and lines == []


def test_a_base_path_without_versions_is_logged_once_until_it_has_one(
    check, lines, tmp_path
):
    assert check(tmp_path) == check(tmp_path) == {}
    (line,) = lines
    assert line.startswith(
        f"No versions of servable m found under base path {tmp_path}"
    )
    make(tmp_path, "1")
    assert check(tmp_path) == {1: tmp_path / "1"}
    (tmp_path / "1").rmdir()
    assert check(tmp_path) == check(tmp_path) == {}
    assert lines == [line] * 2


def test_a_missing_base_path_changes_nothing_and_is_logged_once(check, lines, tmp_path):
    assert check(tmp_path / "missing") is None and check(tmp_path / "missing") is None
    (line,) = lines
    assert f"base path {tmp_path}/missing for servable m" in line
    assert "No such file or directory" in line


def test_a_missing_specific_version_is_logged_once(check, lines, tmp_path):
    make(tmp_path, "1")
    for _ in range(2):
        text = "specific { versions: 1 versions: 8 }"
        assert check(tmp_path, text) == {1: tmp_path / "1"}
    assert len(lines) == 1 and lines[0].startswith("Version 8 of servable m")


def test_a_uri_is_listed_by_tensorflow(check, lines, tmp_path):
    make(tmp_path, "3")
    assert check(f"file://{tmp_path}") == {3: f"file://{tmp_path}/3"}
    assert check("nosuch://bucket/m") is None and "nosuch" in lines[0]
