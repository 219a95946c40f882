"""Downloads of weights: Keras's cache, time limits, and whether a server responds."""

import http.client
import os
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from urllib.error import HTTPError

from mmkeras.errors import one_line

FETCH_S = 15.0  # without any data; a slow network responds within seconds
_HEAD_REFUSED = (403, 405, 501)  # by proxies that let a download pass
_IS_OFFLINE: ContextVar[bool] = ContextVar("mmkeras_is_offline", default=False)


def cached_weights(url: str) -> Path:
    """Returns where Keras keeps the weights that it has fetched from a URL."""
    home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    return Path(home) / "models" / url.rpartition("/")[2]


def download_problem(url: str, timeout_s: float = 3.0) -> str:
    """Returns why a file cannot be downloaded, or "".

    It waits for seconds only, where a download without network can take minutes.
    """
    if _IS_OFFLINE.get():
        return "it was not to be downloaded"
    try:
        try:
            _open(url, "HEAD", timeout_s)
        except HTTPError as error:
            if error.code not in _HEAD_REFUSED:
                raise
            _open(url, "GET", timeout_s)  # of which nothing is read
    except (OSError, http.client.HTTPException) as error:
        reason = str(error).removeprefix("<urlopen error ").removesuffix(">")
        return one_line(reason) or type(error).__name__
    return ""


def _open(url, method, timeout_s):
    request = urllib.request.Request(url, method=method)
    urllib.request.urlopen(request, timeout=timeout_s).close()


@contextmanager
def offline() -> Iterator[None]:
    """Refuses downloads in a block: what is in no cache raises as without network.

    Example:
        with offline():
            fetch_pretrained(config)  # a UserError, unless all weights are here
    """
    token = _IS_OFFLINE.set(True)
    try:
        yield
    finally:
        _IS_OFFLINE.reset(token)


@contextmanager
def limited_wait() -> Iterator[None]:
    """Ends downloads by Python's sockets that get no data for `FETCH_S`."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(FETCH_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
