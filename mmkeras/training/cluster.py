"""Worker addresses and the index of this process, read from TF_CONFIG."""

import json
import os
import socket
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmkeras.errors import UserError

_VARIABLE = "TF_CONFIG"
_JOBS = ("chief", "worker")  # the chief, where one is named, is the first worker
_TRIES = 3
_EXAMPLE = (
    '{"cluster": {"worker": ["HOST:PORT", "HOST:PORT"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Workers of a training: their HOST:PORT, the chief first, and this one's index."""

    addresses: tuple[str, ...] = ("",)
    index: int = 0

    @property
    def workers(self) -> int:
        return len(self.addresses)

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run folder."""
        return self.index == 0

    def is_chief_reachable(self) -> bool:
        """Whether the chief still accepts connections."""
        host, _, port = self.addresses[0].rpartition(":")
        for _ in range(_TRIES):
            try:
                socket.create_connection((host, int(port)), timeout=5).close()
                return True
            except OSError:
                time.sleep(1)
        return False


def read_cluster(environment: Mapping[str, str] = os.environ) -> Cluster:
    """Returns the cluster of TF_CONFIG, or a cluster of one without TF_CONFIG.

    Raises:
        UserError: TF_CONFIG is invalid, or has other jobs than chief and worker.
    """
    text = environment.get(_VARIABLE, "").strip()
    if not text:
        return Cluster()
    try:
        content = json.loads(text)
    except ValueError as error:
        raise _wrong(f"is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise _wrong(f"is {json.dumps(content)}, not an object")
    jobs = content.get("cluster") or {}
    if not isinstance(jobs, dict):
        raise _wrong(f"has cluster {json.dumps(jobs)}, not an object")
    if not jobs:
        return Cluster()
    _check_jobs(jobs)
    addresses = tuple(a for job in _JOBS for a in jobs.get(job, []))
    return Cluster(addresses=addresses, index=_index(jobs, content.get("task")))


def _wrong(problem: str) -> UserError:
    return UserError(f"{_VARIABLE} {problem}. Give it as {_EXAMPLE}, or unset it.")


def _check_jobs(jobs: dict[str, Any]) -> None:
    unknown = sorted(set(jobs) - set(_JOBS))
    if unknown:
        raise _wrong(f"names the job '{unknown[0]}'; only chief and worker can be used")
    for job, addresses in jobs.items():
        is_valid = isinstance(addresses, list) and all(
            isinstance(a, str) and a.rpartition(":")[2].isdigit() for a in addresses
        )
        if not is_valid or not addresses:
            raise _wrong(f"has {job} {json.dumps(addresses)}, not a list of HOST:PORT")
    counts = Counter(a for addresses in jobs.values() for a in addresses)
    duplicate = next((a for a, count in counts.items() if count > 1), None)
    if duplicate:
        raise _wrong(f"names the address '{duplicate}' twice")
    if len(jobs.get("chief", [])) > 1:
        raise _wrong(f"names {len(jobs['chief'])} chiefs; one is possible")


def _index(jobs: dict[str, list[str]], task: Any) -> int:
    if not isinstance(task, dict) or task.get("type") not in jobs:
        text = f"has task {json.dumps(task)}, whose type is not a job of the cluster"
        raise _wrong(text)
    job, index = task["type"], task.get("index", 0)
    if isinstance(index, str) and index.isdigit():  # some launchers quote it
        index = int(index)
    size = len(jobs[job])
    if type(index) is not int or not 0 <= index < size:
        raise _wrong(
            f"has task index {json.dumps(index)}, and {job} has {size}: it must be "
            f"from 0 to {size - 1}"
        )
    return index + (len(jobs.get("chief", [])) if job == "worker" else 0)
