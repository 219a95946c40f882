"""models.config: TF Serving's list of models, and what it was before each change."""

import os
import tempfile
from pathlib import Path

from mmkeras.errors import UserError, did_you_mean

_MOST_KEPT = 10  # changes that can be rolled back


def read_models(path: Path):
    """Reads a ModelServerConfig in text form.

    Raises:
        UserError: There is no such file, it is no such message, or it has no models.
    """
    from google.protobuf import text_format
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    try:
        config = text_format.Parse(
            path.read_text(encoding="utf-8"), ModelServerConfig()
        )
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The file '{path}' cannot be read: {error}.") from None
    except text_format.ParseError as error:
        raise UserError(
            f"The file '{path}' is no model_config_list of TF Serving: {error}."
        ) from None
    if not config.model_config_list.config:
        raise UserError(f"The file '{path}' lists no models in a model_config_list.")
    return config


def find_model(config, name: str):
    """Returns the ModelConfig called `name`, a part of `config`.

    Raises:
        UserError: There is none.
    """
    models = {model.name: model for model in config.model_config_list.config}
    if name not in models:
        raise UserError(
            f"There is no model '{name}'.{did_you_mean(name, list(models))}"
        )
    return models[name]


def write_models(path: Path, config) -> None:
    """Writes it whole or not at all; comments at the top of the file are kept."""
    from google.protobuf import text_format

    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    first = next((i for i, line in enumerate(lines) if line[:1] != "#"), len(lines))
    write_whole(path, "".join(lines[:first]) + text_format.MessageToString(config))


def write_whole(path: Path, text: str) -> None:
    """Replaces a file by one rename, as TF Serving may read it at any moment."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, path.stat().st_mode & 0o777)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def list_backups(path: Path) -> list[Path]:
    """Returns what the file was before each change, oldest first."""
    found = path.parent.glob(f"{path.name}.*")
    numbered = [file for file in found if file.suffix[1:].isdigit()]
    return sorted(numbered, key=lambda file: int(file.suffix[1:]))


def back_up(path: Path, text: str) -> Path:
    """Keeps `text` as what the file was, and forgets what is too long ago."""
    before = list_backups(path)
    number = int(before[-1].suffix[1:]) + 1 if before else 1
    target = path.with_name(f"{path.name}.{number}")
    target.write_text(text, encoding="utf-8")
    for old in [*before, target][:-_MOST_KEPT]:
        old.unlink()
    return target
