"""Which versions of a model lie under its base path, and which of them are wanted."""

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
# Where a version lies; a URI is no Path, which would lose one of its slashes.
Location = Path | str

# Source: safe_strto64 of TensorFlow 2.16 (tsl/platform/numbers.cc), by which TF Serving
# reads the names of folders: zeros may lead, white space may surround.
_NUMBER = re.compile(r"[ \t\n\v\f\r]*(-?[0-9]+)[ \t\n\v\f\r]*", re.ASCII)
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


def parse_version(name: str) -> int | None:
    """Returns the version that a folder's name stands for; None: it is no version."""
    found = _NUMBER.fullmatch(name)
    if not found or len(found[1].lstrip("-0")) > 19:  # digits of the highest
        return None
    number = int(found[1])
    return number if _LOWEST <= number <= _HIGHEST else None


def find_versions(base_path: str) -> tuple[dict[int, str], list[str]]:
    """Lists the versions under a base path.

    As in TF Serving, a file whose name is a number counts: it is a version that does
    not load.

    Returns:
        {version: name of its folder}, ascending, and warnings.

    Raises:
        OSError: The base path cannot be listed.
    """
    found, warnings = {}, []
    for name in sorted(_list(base_path)):
        number = parse_version(name)
        if number is None:
            continue
        if number in found:
            warnings.append(
                f"Duplicate version directories detected. Version {number} will be "
                f"loaded from {name}, {found[number]} will be ignored."
            )
        found[number] = name
    return dict(sorted(found.items())), warnings


def _list(base_path: str) -> set[str]:
    if not is_remote(base_path):
        return set(os.listdir(base_path))
    import tensorflow as tf

    try:
        names = tf.io.gfile.listdir(base_path)
    except tf.errors.OpError as error:
        raise OSError(error.error_code, error.message, base_path) from None
    # A store of objects may answer "7/", or what lies deeper.
    return {name.partition("/")[0] for name in names}


def choose_versions(found: list[int], policy: Policy) -> list[int]:
    """Returns those of the versions found that the policy wants served."""
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return sorted(found)
    if kind == "specific":
        return sorted(set(found) & set(policy.specific.versions))
    return sorted(found)[-max(policy.latest.num_versions, 1) :]


class Watcher:
    """Looks under base paths, and warns of what is wrong there once, not every time."""

    def __init__(self, say: Callable[[str], object]):
        self._say = say
        self._said: dict[str, set[str]] = {}

    def look(self, model: ModelConfig) -> dict[int, Location] | None:
        """Returns {version: where it lies} of those that are to be served.

        None where the base path cannot be read, which may pass: what is served then
        stays as it is. A base path without a version is another thing, and ends what
        is served.
        """
        try:
            found, warnings = find_versions(model.base_path)
        except OSError as error:
            self._warn(
                model,
                [
                    f"Could not find base path {model.base_path} for servable "
                    f"{model.name} with error {error.strerror or error}."
                ],
            )
            return None
        policy = model.model_version_policy
        wanted = choose_versions(list(found), policy)
        for number in sorted(set(policy.specific.versions) - set(found)):
            warnings.append(
                f"Version {number} of servable {model.name}, which was requested to "
                "be served as a 'specific' version in the servable's version policy, "
                "was not found in the file system."
            )
        if not wanted:
            warnings.append(
                f"No versions of servable {model.name} found under base path "
                f"{model.base_path}. Did you forget to name your leaf directory as a "
                "number (eg. '/1/')?"
            )
        self._warn(model, warnings)
        return {n: _locate(model.base_path, found[n]) for n in wanted}

    def _warn(self, model: ModelConfig, warnings: list[str]) -> None:
        """Says what was not wrong the last time, and forgets what is right again."""
        for warning in warnings:
            if warning not in self._said.get(model.name, ()):
                self._say(warning)
        self._said[model.name] = set(warnings)


def _locate(base_path: str, name: str) -> Location:
    path = join_path(base_path, name)
    return path if is_remote(path) else Path(path)
