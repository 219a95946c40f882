"""Downloads of weights: Keras's cache, and whether a server can be reached."""

import http.client
import os
import urllib.request
from pathlib import Path

from mmkeras.errors import one_line

_HOST_S = 3


def cached_weights(url: str) -> Path:
    """Returns where Keras keeps the weights that it has fetched from a URL."""
    home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    return Path(home) / "models" / url.rpartition("/")[2]


def download_problem(url: str) -> str:
    """Returns why a file cannot be downloaded, or "".

    It waits for seconds only, where a download without network can take minutes.
    """
    request = urllib.request.Request(url, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=_HOST_S).close()
    except (OSError, http.client.HTTPException) as error:
        reason = str(error).removeprefix("<urlopen error ").removesuffix(">")
        return one_line(reason) or type(error).__name__
    return ""
