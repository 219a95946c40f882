"""Dataclasses of all settings of a run, and their conversion to and from dicts."""

from mmkeras.config.audio import AudioConfig
from mmkeras.config.config import Config, flatten, from_dict, to_dict, to_yaml
from mmkeras.config.ensemble import EnsembleConfig
from mmkeras.config.evaluate import EvaluateConfig, ExportConfig
from mmkeras.config.fusion import FusionConfig
from mmkeras.config.generate import GenerateConfig
from mmkeras.config.image import ImageConfig
from mmkeras.config.loss import LossConfig
from mmkeras.config.table import TableConfig
from mmkeras.config.tabular import TabularConfig
from mmkeras.config.text import TextConfig
from mmkeras.config.train import AugmentConfig, TrainConfig
from mmkeras.config.validation import check, check_range
from mmkeras.config.vector import VectorConfig

__all__ = [
    "AudioConfig",
    "AugmentConfig",
    "Config",
    "EnsembleConfig",
    "EvaluateConfig",
    "ExportConfig",
    "FusionConfig",
    "GenerateConfig",
    "ImageConfig",
    "LossConfig",
    "TableConfig",
    "TabularConfig",
    "TextConfig",
    "TrainConfig",
    "VectorConfig",
    "check",
    "check_range",
    "flatten",
    "from_dict",
    "to_dict",
    "to_yaml",
]
