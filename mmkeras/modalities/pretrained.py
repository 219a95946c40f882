"""Downloads of the encoders, made before the rows are read."""

from mmkeras.config import Config
from mmkeras.environment.model_hub import find_model, is_handle
from mmkeras.modalities.columns import build_columns


def fetch_pretrained(config: Config) -> None:
    """Fetches ImageNet weights and TF-Hub modules that the columns need, once.

    Raises:
        UserError: One is neither in its cache nor can be fetched.
    """
    for column in build_columns(config):
        column.fetch()


def has_handles(config: Config) -> bool:
    """Whether an encoder is given by a handle of a hub, if the table has its column."""
    parts = config.image, config.text, config.audio
    return bool(config.image.lite0_handle) or any(is_handle(p.weights) for p in parts)


def fetch_handles(config: Config) -> None:
    """Fetches models that the columns need by handles of hubs, without TensorFlow.

    Raises:
        UserError: As `fetch_pretrained`.
    """
    for column in build_columns(config):
        if column.handle:
            find_model(f"{column.type}.weights", column.handle)
