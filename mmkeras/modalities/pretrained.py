"""Downloads of the encoders, made before the rows are read."""

from mmkeras.config import Config
from mmkeras.modalities.columns import build_columns


def fetch_pretrained(config: Config) -> None:
    """Fetches ImageNet weights and TF-Hub modules that the columns need, once.

    Raises:
        UserError: One is neither in its cache nor can be fetched.
    """
    for column in build_columns(config):
        column.fetch()
