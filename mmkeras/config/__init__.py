"""Every number a run depends on, with its unit. Nothing else reads settings."""

from mmkeras.config.audio import AudioConfig
from mmkeras.config.check import check
from mmkeras.config.evaluate import EvaluateConfig, ExportConfig
from mmkeras.config.fusion import FusionConfig
from mmkeras.config.image import ImageConfig
from mmkeras.config.loss import LossConfig
from mmkeras.config.table import TableConfig
from mmkeras.config.text import TextConfig
from mmkeras.config.train import AugmentConfig, TrainConfig
from mmkeras.config.whole import Config, from_dict, to_dict

__all__ = [
    "AudioConfig",
    "AugmentConfig",
    "Config",
    "EvaluateConfig",
    "ExportConfig",
    "FusionConfig",
    "ImageConfig",
    "LossConfig",
    "TableConfig",
    "TextConfig",
    "TrainConfig",
    "check",
    "from_dict",
    "to_dict",
]
