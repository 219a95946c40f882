"""Downloads of the encoders, made before the rows are read."""

from collections.abc import Sequence

from mmkeras.config import Config
from mmkeras.modalities import tf_hub
from mmkeras.modalities.image.applications import APPLICATIONS, fetch_imagenet
from mmkeras.schema import AUDIO, IMAGE, TEXT


def fetch_pretrained(config: Config, modalities: Sequence[str]) -> None:
    """Fetches ImageNet weights and TF-Hub modules that the settings need, once.

    Raises:
        UserError: One is neither in its cache nor can be fetched.

    Example:
        fetch_pretrained(config, table_modalities("rows.csv", config.table))
    """
    application = APPLICATIONS.get(config.image.encoder)
    if IMAGE in modalities and application and config.image.weights == "imagenet":
        fetch_imagenet(application)
    for name in (TEXT, AUDIO):
        branch = getattr(config, name)
        if name in modalities and branch.encoder == "hub":
            tf_hub.fetch(branch.hub_handle, name)
