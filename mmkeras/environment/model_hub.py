"""Folders of pretrained models: local ones, and those that handles name."""

from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

from mmkeras.console import say
from mmkeras.environment.download import FETCH_S, download_problem, limited_wait
from mmkeras.environment.extras import import_extra
from mmkeras.errors import UserError, one_line

HUGGING_FACE, KAGGLE, PACKAGE = "hf://", "kaggle://", "package://"
_CONFIG = "config.json"
# Of a repository of Hugging Face, which has the same weights in several formats.
_FILES = ("*.json", "*.txt", "*.safetensors", "*.weights.h5", "assets/*")


def is_handle(source: str) -> bool:
    """Whether a source names a model of a hub or of an installed Python package."""
    return source.startswith((HUGGING_FACE, KAGGLE, PACKAGE))


def find_model(setting: str, source: str) -> Path:
    """Returns the folder of a model, fetched once into the cache of its hub.

    Args:
        setting: Name of the setting, for errors.
        source: A folder; hf://OWNER/NAME, or hf://OWNER/NAME@REVISION;
            kaggle://OWNER/MODEL/keras/NAME; or package://NAME/FOLDER, inside an
            installed Python package.

    Raises:
        UserError: It is no folder, or neither in the cache nor can be fetched.

    Example:
        folder = find_model("text.weights", "hf://sentence-transformers/all-MiniLM-L6-v2")
    """
    if not is_handle(source):
        if not Path(source).is_dir():
            raise UserError(
                f"{setting}='{source}' is no folder here. Give the folder of a model, "
                f"or a handle such as {HUGGING_FACE}OWNER/NAME, which is fetched once."
            )
        return Path(source)
    kind, _, name = source.partition("://")
    try:
        return _FETCH[kind](setting, name)
    except UserError:
        raise
    except Exception as error:  # each hub, and each of its transports, has its own
        raise UserError(
            f"{setting}='{source}' is not in the cache and could not be fetched "
            f"({one_line(error, 200)}). Fetch the model elsewhere and give its folder: "
            f"--{setting} DIR."
        ) from error


def _from_hugging_face(setting, name):
    hub = import_extra("huggingface_hub", f"{setting}={HUGGING_FACE}{name}")
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalEntryNotFoundError

    name, _, revision = name.partition("@")
    request = {"repo_id": name, "revision": revision or None, "allow_patterns": _FILES}
    try:
        folder = Path(hub.snapshot_download(**request, local_files_only=True))
        if _has_weights(folder):
            return folder
    except LocalEntryNotFoundError:
        pass
    # Its own attempts to connect take minutes without network.
    url = f"{constants.ENDPOINT}/{name}/resolve/{revision or 'main'}/{_CONFIG}"
    if constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE is set")
    if problem := download_problem(url, FETCH_S):
        raise OSError(problem)
    size_mb = _size_mb(hub, name, revision)
    _announce(setting, f"{HUGGING_FACE}{name}, {size_mb:,} MB", constants.HF_HUB_CACHE)
    return Path(hub.snapshot_download(**request))


def _size_mb(hub, name, revision) -> int:
    """Returns the size of the files of a repository that are fetched."""
    info = hub.model_info(name, revision=revision or None, files_metadata=True)
    sizes = (
        file.size or 0
        for file in info.siblings
        if any(fnmatch(file.rfilename, pattern) for pattern in _FILES)
    )
    return sum(sizes) // 10**6


def _announce(setting, what, cache) -> None:
    say(f"Fetching {what}, once into {cache}; --{setting} DIR would be a local folder.")


def _has_weights(folder: Path) -> bool:
    weights = (*folder.glob("*.safetensors"), *folder.glob("*.weights.h5"))
    return (folder / _CONFIG).exists() and bool(weights)


def _from_kaggle(setting, name):
    hub = import_extra("kagglehub", f"{setting}={KAGGLE}{name}")
    from kagglehub.config import get_cache_folder

    _announce(setting, f"{KAGGLE}{name}", get_cache_folder())
    with limited_wait():
        return Path(hub.model_download(name))


def _from_package(setting, name):
    package, _, folder = name.partition("/")
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"{setting}={PACKAGE}{name} needs the Python package {package}, which is "
            f"not installed. Install it with pip, or give a folder: --{setting} DIR."
        )
    return Path(spec.submodule_search_locations[0], folder)


_FETCH = {"hf": _from_hugging_face, "kaggle": _from_kaggle, "package": _from_package}
