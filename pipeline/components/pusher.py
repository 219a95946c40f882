"""Pusher: a blessed model to a base path of TF Serving, where versions appear whole."""

import json
import time
from typing import Any

from tfx import types
from tfx.components import Pusher
from tfx.components.pusher import executor
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils

from mmkeras.files import join_path


class Executor(executor.Executor):
    """TFX's, but for the copy: aside first, then named by one rename.

    TF Serving polls the base path and would load half a version. On an object store
    a rename is a copy; there the version's own files make it valid one by one.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Pushes a model that all have blessed, unless it is the newest version."""
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed = artifact_utils.get_single_instance(output_dict["pushed_model"])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            return
        destination = json.loads(exec_properties["push_destination"])
        base_path = destination["filesystem"]["base_directory"]
        model, version = self.GetModelPath(input_dict), newest_version(base_path)
        if not version or not _is_same(model, join_path(base_path, version)):
            version = str(max(int(time.time()), int(version or 0) + 1))
            aside = join_path(base_path, f".{version}.partial")
            io_utils.copy_dir(model, aside)
            fileio.rename(aside, join_path(base_path, version))
        target = join_path(base_path, version)
        io_utils.copy_dir(target, pushed.uri)
        self._MarkPushed(pushed, pushed_destination=target, pushed_version=version)


def newest_version(base_path: str) -> str:
    """Returns the newest version under a base path; "" where there is none."""
    if not fileio.exists(base_path):
        return ""
    names = (name.strip("/") for name in fileio.listdir(base_path))
    return max((name for name in names if name.isdigit()), key=int, default="")


def _is_same(model: str, other: str) -> bool:
    """Whether two SavedModels have the same graph and the same weights."""
    return all(
        _content(path)
        == _content(join_path(other, path.removeprefix(model).lstrip("/")))
        for pattern in ("saved_model.pb", "variables/*")
        for path in fileio.glob(join_path(model, pattern))
    )


def _content(path: str) -> bytes:
    if not fileio.exists(path):
        return b""
    with fileio.open(path, "rb") as file:
        return file.read()


class AtomicPusher(Pusher):
    """Component of the executor above.

    Give it the `newest_version` in `custom_config`: what was pushed once, and is not
    the newest any more, is then pushed anew and not answered from the cache.
    """

    EXECUTOR_SPEC = ExecutorClassSpec(Executor)
