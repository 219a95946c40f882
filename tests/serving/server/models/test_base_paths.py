import pytest
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from serving.server.models.base_paths import find_versions, parse_version


def find(base_path, *names, policy=""):
    """Makes folders; returns {version: folder name} and the warnings."""
    for name in names:
        (base_path / name).mkdir()
    text = f'name: "m" base_path: "{base_path}" model_version_policy {{ {policy} }}'
    paths, warnings = find_versions(text_format.Parse(text, ModelConfig()))
    if paths is not None:
        paths = {n: path.removeprefix(f"{base_path}/") for n, path in paths.items()}
    return paths, warnings


NUMBERS = ["1", "007", "-3", " 5\n", "0" * 40 + "9", str(2**63 - 1), str(-(2**63))]
OTHER_NAMES = [str(2**63), str(-(2**63) - 1), "9" * 5000, "+1", "1.0", "1 2", "1_000"]
OTHER_NAMES += ["v1", "1.tmp", ".1", "٣", "²", "", "-"]


@pytest.mark.parametrize(
    "name, number",
    [(name, int(name)) for name in NUMBERS] + [(name, None) for name in OTHER_NAMES],
)
def test_a_folder_is_a_version_if_tf_serving_reads_its_name_as_one(name, number):
    assert parse_version(name) == number


@pytest.mark.parametrize(
    "policy, numbers",
    [
        ("", [4]),
        ("latest {}", [4]),
        ("latest { num_versions: 2 }", [3, 4]),
        ("latest { num_versions: 9 }", [-1, 2, 3, 4]),
        ("all {}", [-1, 2, 3, 4]),
        ("specific { versions: 3 versions: 2 }", [2, 3]),
    ],
)
def test_a_policy_chooses_among_the_versions(tmp_path, policy, numbers):
    paths, warnings = find(tmp_path, "3", "-1", "4", "2", policy=policy)
    assert list(paths) == numbers and not warnings


def test_a_file_or_folder_with_a_number_as_name_is_a_version(tmp_path):
    (tmp_path / "11").write_text("a file counts, as in TF Serving")
    paths, _ = find(tmp_path, "10", "002", "notes", "3.tmp", policy="all {}")
    assert paths == {2: "002", 10: "10", 11: "11"}


@pytest.mark.parametrize(
    "names, policy, paths, warning",
    [
        ("", "", {}, "No versions of servable m found under base path"),
        ("1", "specific { versions: 1 versions: 8 }", {1: "1"}, "Version 8 of servabl"),
        (["1", "01"], "", {1: "1"}, "Version 1 will be loaded from 1, 01 will be ign"),
    ],
)
def test_missing_or_duplicate_versions_are_a_warning(
    tmp_path, names, policy, paths, warning
):
    result, (line,) = find(tmp_path, *names, policy=policy)
    assert result == paths and warning in line


@pytest.mark.parametrize(
    "base_path, reason",
    [("/x", "No such file"), ("nosuch://x", "nosuch"), ("/x\\000", "null char")],
)
def test_a_base_path_that_cannot_be_listed_is_not_one_without_versions(
    base_path, reason
):
    paths, (warning,) = find(base_path)
    assert paths is None and "Could not find base path" in warning
    assert "for servable m with error" in warning and reason in warning


def test_a_remote_base_path_is_listed_by_tensorflow(tmp_path):
    find(tmp_path, "3")
    assert find(f"file://{tmp_path}") == ({3: "3"}, [])
