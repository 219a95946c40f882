"""Model versions under a base path, and their choice by a version policy."""

import os
import re
from collections.abc import Iterable
from typing import Any

import tensorflow as tf
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from mmkeras.files import is_remote, join_path

# Source: safe_strto64 of TensorFlow 2.16 (tsl/platform/numbers.cc), by which TF Serving
# reads the names of folders: zeros may lead, white space may surround.
_NUMBER = re.compile(r"[ \t\n\v\f\r]*(-?)0*([0-9]{1,19})[ \t\n\v\f\r]*", re.ASCII)


def parse_version(name: str) -> int | None:
    """Returns a folder's version number; None if its name is not one."""
    match = _NUMBER.fullmatch(name)
    number = int(match[1] + match[2]) if match else None
    return number if match and -(2**63) <= number < 2**63 else None


def _choose(versions: Iterable[int], policy: Any) -> list[int]:
    """Returns the versions that a model_version_policy selects, ascending."""
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return sorted(versions)
    if kind == "specific":
        return sorted(set(versions) & set(policy.specific.versions))
    return sorted(versions)[-max(policy.latest.num_versions, 1) :]


def find_versions(model: ModelConfig) -> tuple[dict[int, str] | None, list[str]]:
    """Returns the {version: path} that a model's policy selects, and warnings.

    The first is None if the base path cannot be listed. As in TF Serving, a file with a
    number as name counts as a version, which fails to load.
    """
    base_path, policy = model.base_path, model.model_version_policy
    try:
        names = sorted(_list(base_path))
    except (OSError, ValueError) as error:  # ValueError: a name is not UTF-8
        reason = getattr(error, "strerror", None) or error
        text = f"Could not find base path {base_path} for servable {model.name}"
        return None, [f"{text} with error {reason}."]
    folders, warnings = {}, []
    for name in names:
        number = parse_version(name)
        if number in folders:
            warnings.append(
                f"Duplicate version directories detected. Version {number} will be "
                f"loaded from {name}, {folders[number]} will be ignored."
            )
        if number is not None:
            folders[number] = name
    for number in sorted(set(policy.specific.versions) - set(folders)):
        warnings.append(
            f"Version {number} of servable {model.name}, which was requested to "
            "be served as a 'specific' version in the servable's version policy, "
            "was not found in the file system."
        )
    numbers = _choose(folders, policy)
    if not numbers:
        warnings.append(
            f"No versions of servable {model.name} found under base path {base_path}. "
            "Did you forget to name your leaf directory as a number (eg. '/1/')?"
        )
    return {n: join_path(base_path, folders[n]) for n in numbers}, warnings


def _list(base_path: str) -> set[str]:
    if not is_remote(base_path):
        return set(os.listdir(base_path))
    try:
        names = tf.io.gfile.listdir(base_path)
    except tf.errors.OpError as error:
        raise OSError(error.error_code, error.message, base_path) from None
    # An object store may list "7/" or deeper paths.
    return {name.partition("/")[0] for name in names}
