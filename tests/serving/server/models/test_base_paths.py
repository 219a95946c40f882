import pytest
from google.protobuf import text_format
from hypothesis import example, given
from hypothesis import strategies as st
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from serving.server.models.base_paths import (
    Policy,
    choose_versions,
    find_versions,
    parse_version,
)


def policy(text):
    return text_format.Parse(text, Policy())


def find(base_path, text=""):
    return find_versions(
        ModelConfig(
            name="m", base_path=f"{base_path}", model_version_policy=policy(text)
        )
    )


def make(folder, *names):
    for name in names:
        (folder / name).mkdir()


NUMBERS = ["1", "007", "-3", " 5\n", "0" * 40 + "9", str(2**63 - 1), str(-(2**63))]
OTHER_NAMES = [str(2**63), str(-(2**63) - 1), "9" * 5000, "+1", "1.0", "1 2", "1_000"]
OTHER_NAMES += ["v1", "1.tmp", ".1", "٣", "", "-"]


@pytest.mark.parametrize(
    "name, number",
    [(name, int(name)) for name in NUMBERS] + [(name, None) for name in OTHER_NAMES],
)
def test_a_folder_is_a_version_if_tf_serving_reads_its_name_as_one(name, number):
    assert parse_version(name) == number


@given(st.text(max_size=25) | st.text("0123456789-+ .", max_size=25))
@example("²")
def test_any_other_name_is_no_version(name):
    number = parse_version(name)
    if number is not None:
        assert name.strip(" \t\n\v\f\r").isascii() and number == int(name)
        assert -(2**63) <= number < 2**63


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


def test_a_file_or_folder_with_a_number_as_name_is_a_version(tmp_path):
    make(tmp_path, "10", "002", "notes", "3.tmp")
    (tmp_path / "11").write_text("a file counts, as in TF Serving")
    paths = {2: tmp_path / "002", 10: tmp_path / "10", 11: tmp_path / "11"}
    assert find(tmp_path, "all {}") == (paths, [])


def test_the_last_of_two_folders_of_one_version_counts_with_a_warning(tmp_path):
    make(tmp_path, "1", "01")
    locations, (warning,) = find(tmp_path)
    assert locations == {1: tmp_path / "1"}
    assert "Version 1 will be loaded from 1, 01 will be ignored" in warning


@pytest.mark.parametrize(
    "text, versions, warning",
    [
        ("", {}, "No versions of servable m found under base path"),
        ("specific { versions: 1 versions: 8 }", {1}, "Version 8 of servable m, which"),
    ],
)
def test_missing_versions_are_a_warning(tmp_path, text, versions, warning):
    make(tmp_path, *map(str, versions))
    locations, (line,) = find(tmp_path, text)
    assert locations.keys() == set(versions) and line.startswith(warning)


def test_a_missing_base_path_is_not_one_without_versions(tmp_path):
    locations, (warning,) = find(tmp_path / "x")
    assert locations is None
    assert f"base path {tmp_path}/x for servable m with error No such" in warning


def test_a_uri_is_listed_by_tensorflow(tmp_path):
    make(tmp_path, "3")
    assert find(f"file://{tmp_path}") == ({3: f"file://{tmp_path}/3"}, [])
    locations, (warning,) = find("nosuch://bucket/m")
    assert locations is None and "nosuch" in warning
