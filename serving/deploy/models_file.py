"""TF Serving's list of models, models.config, and backups of it."""

import glob
from pathlib import Path

from mmkeras.errors import UserError, did_you_mean
from mmkeras.files import atomic_path
from serving.text_proto import read_text_proto

_MAX_BACKUPS = 10
_EXAMPLE = 'model_config_list { config { name: "m" base_path: "/models/m" } }'


def read_models(path: Path):
    """Reads a ModelServerConfig in text form.

    Raises:
        UserError: The file cannot be read, or lists no models.
    """
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    config = read_text_proto(path, ModelServerConfig, _EXAMPLE)
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
        hint = did_you_mean(name, list(models))
        raise UserError(f"There is no model '{name}'.{hint}")
    return models[name]


def write_models(path: Path, config) -> None:
    """Writes `config` by a rename; comments at the top of the file are kept."""
    from google.protobuf import text_format

    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    first = next((i for i, line in enumerate(lines) if line[:1] != "#"), len(lines))
    replace_text(path, "".join(lines[:first]) + text_format.MessageToString(config))


def replace_text(path: Path, text: str) -> None:
    """Replaces a file by a rename, because TF Serving may read it at any moment."""
    with atomic_path(path) as tmp_path:
        tmp_path.write_text(text, encoding="utf-8")
        tmp_path.chmod(path.stat().st_mode & 0o777)


def list_backups(path: Path) -> list[Path]:
    """Returns the backups of a file, oldest first."""
    paths = path.parent.glob(f"{glob.escape(path.name)}.*")
    numbered = [backup for backup in paths if backup.suffix[1:].isdigit()]
    return sorted(numbered, key=lambda backup: int(backup.suffix[1:]))


def back_up(path: Path, text: str) -> Path:
    """Writes `text` as the newest backup of a file, and deletes the oldest ones."""
    backups = list_backups(path)
    number = int(backups[-1].suffix[1:]) + 1 if backups else 1
    backup = path.with_name(f"{path.name}.{number}")
    backup.write_text(text, encoding="utf-8")
    for old in [*backups, backup][:-_MAX_BACKUPS]:
        old.unlink()
    return backup
