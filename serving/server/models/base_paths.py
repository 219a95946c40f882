"""Model versions under a base path, and their choice by a version policy."""

import os
import re
from pathlib import Path

from tensorflow_serving.config.file_system_storage_path_source_pb2 import (
    FileSystemStoragePathSourceConfig,
)
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from mmkeras.files import is_remote, join_path

Policy = FileSystemStoragePathSourceConfig.ServableVersionPolicy
# Folder of a version; a URI stays text, as Path would drop a slash.
Location = Path | str

# Source: safe_strto64 of TensorFlow 2.16 (tsl/platform/numbers.cc), by which TF Serving
# reads the names of folders: zeros may lead, white space may surround.
_NUMBER = re.compile(r"[ \t\n\v\f\r]*(-?[0-9]+)[ \t\n\v\f\r]*", re.ASCII)
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


def parse_version(name: str) -> int | None:
    """Returns a folder's version number; None if its name is not one."""
    match = _NUMBER.fullmatch(name)
    if not match or len(match[1].lstrip("-0")) > 19:  # digits of the highest
        return None
    number = int(match[1])
    return number if _LOWEST <= number <= _HIGHEST else None


def choose_versions(versions: list[int], policy: Policy) -> list[int]:
    """Returns the versions that the policy selects."""
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return sorted(versions)
    if kind == "specific":
        return sorted(set(versions) & set(policy.specific.versions))
    return sorted(versions)[-max(policy.latest.num_versions, 1) :]


def find_versions(model: ModelConfig) -> tuple[dict[int, Location] | None, list[str]]:
    """Lists the versions under a model's base path that its policy selects.

    As in TF Serving, a file with a number as name counts as a version, which fails to
    load.

    Returns:
        {version: location}, None if the base path cannot be listed; and warnings.
    """
    try:
        names = _list(model.base_path)
    except OSError as error:
        text = f"Could not find base path {model.base_path} for servable "
        return None, [f"{text}{model.name} with error {error.strerror or error}."]
    folders, warnings = {}, []
    for name in sorted(names):
        number = parse_version(name)
        if number in folders:
            warnings.append(
                f"Duplicate version directories detected. Version {number} will be "
                f"loaded from {name}, {folders[number]} will be ignored."
            )
        if number is not None:
            folders[number] = name
    policy = model.model_version_policy
    for number in sorted(set(policy.specific.versions) - set(folders)):
        warnings.append(
            f"Version {number} of servable {model.name}, which was requested to "
            "be served as a 'specific' version in the servable's version policy, "
            "was not found in the file system."
        )
    chosen = choose_versions(list(folders), policy)
    if not chosen:
        warnings.append(
            f"No versions of servable {model.name} found under base path "
            f"{model.base_path}. Did you forget to name your leaf directory as a "
            "number (eg. '/1/')?"
        )
    paths = {number: join_path(model.base_path, folders[number]) for number in chosen}
    return {n: p if is_remote(p) else Path(p) for n, p in paths.items()}, warnings


def _list(base_path: str) -> set[str]:
    if not is_remote(base_path):
        return set(os.listdir(base_path))
    import tensorflow as tf

    try:
        names = tf.io.gfile.listdir(base_path)
    except tf.errors.OpError as error:
        raise OSError(error.error_code, error.message, base_path) from None
    # An object store may list "7/" or deeper paths.
    return {name.partition("/")[0] for name in names}
