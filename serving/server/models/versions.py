"""Model versions under a base path, and their choice by a version policy."""

import os
import re
from collections.abc import Callable
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


def find_versions(base_path: str) -> tuple[dict[int, str], list[str]]:
    """Lists the versions under a base path.

    As in TF Serving, a file with a number as name counts as a version, which fails to
    load.

    Returns:
        {version: folder name}, ascending, and warnings.

    Raises:
        OSError: The base path cannot be listed.
    """
    folders, warnings = {}, []
    for name in sorted(_list(base_path)):
        number = parse_version(name)
        if number is None:
            continue
        if number in folders:
            warnings.append(
                f"Duplicate version directories detected. Version {number} will be "
                f"loaded from {name}, {folders[number]} will be ignored."
            )
        folders[number] = name
    return dict(sorted(folders.items())), warnings


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


def choose_versions(versions: list[int], policy: Policy) -> list[int]:
    """Returns the versions that the policy selects."""
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return sorted(versions)
    if kind == "specific":
        return sorted(set(versions) & set(policy.specific.versions))
    return sorted(versions)[-max(policy.latest.num_versions, 1) :]


class BasePathWatcher:
    """Lists base paths and logs each problem once."""

    def __init__(self, log: Callable[[str], object]):
        self._write_log = log
        self._reported: dict[str, set[str]] = {}

    def check_base_path(self, model: ModelConfig) -> dict[int, Location] | None:
        """Returns {version: folder} of the versions to serve.

        None if the base path cannot be read: the served versions then stay. A base path
        without versions, in contrast, ends them.
        """
        try:
            folders, warnings = find_versions(model.base_path)
        except OSError as error:
            text = f"Could not find base path {model.base_path} for servable "
            text += f"{model.name} with error {error.strerror or error}."
            self._warn(model, [text])
            return None
        policy = model.model_version_policy
        desired = choose_versions(list(folders), policy)
        for number in sorted(set(policy.specific.versions) - set(folders)):
            warnings.append(
                f"Version {number} of servable {model.name}, which was requested to "
                "be served as a 'specific' version in the servable's version policy, "
                "was not found in the file system."
            )
        if not desired:
            warnings.append(
                f"No versions of servable {model.name} found under base path "
                f"{model.base_path}. Did you forget to name your leaf directory as a "
                "number (eg. '/1/')?"
            )
        self._warn(model, warnings)
        return {n: _locate(model.base_path, folders[n]) for n in desired}

    def _warn(self, model: ModelConfig, warnings: list[str]) -> None:
        """Logs the warnings that the previous check did not have."""
        for warning in warnings:
            if warning not in self._reported.get(model.name, ()):
                self._write_log(warning)
        self._reported[model.name] = set(warnings)


def _locate(base_path: str, name: str) -> Location:
    path = join_path(base_path, name)
    return path if is_remote(path) else Path(path)
