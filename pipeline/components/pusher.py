"""Pusher: TFX component that publishes a blessed model atomically for TF Serving."""

import json
import time

from tfx.components import Pusher
from tfx.components.pusher import executor
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils

from mmkeras.files import join_path


class Executor(executor.Executor):
    """TFX's executor, with a copy to a temporary name and one rename.

    TF Serving polls the base path, and would otherwise load an incomplete version. On
    an object store a rename is a copy and not atomic.
    """

    def Do(self, input_dict, output_dict, exec_properties) -> None:
        """Pushes a model with all blessings, unless it is the latest version."""
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
            tmp_path = join_path(base_path, f".{version}.partial")
            io_utils.copy_dir(model, tmp_path)
            fileio.rename(tmp_path, join_path(base_path, version))
        target = join_path(base_path, version)
        io_utils.copy_dir(target, pushed.uri)
        self._MarkPushed(pushed, pushed_destination=target, pushed_version=version)


def newest_version(base_path: str) -> str:
    """Returns the latest version under a local or remote base path, "" for none."""
    try:
        names = [name.strip("/") for name in fileio.listdir(base_path)]
    except fileio.NotFoundError:
        return ""
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

    With `newest_version` in `custom_config`, a model that was pushed once, but is no
    longer the latest version, is pushed again instead of reused from the cache.
    """

    EXECUTOR_SPEC = ExecutorClassSpec(Executor)
