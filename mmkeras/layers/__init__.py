"""Keras layers of mmkeras, each usable on its own.

Keras loads a saved model only if its layers have been imported. This package imports
all of them, and `import mmkeras` sees to it that it is imported with Keras.

Example:
    vector = mmkeras.layers.TokenPooling("attention")(tokens, mask)
"""

from importlib import import_module
from typing import Any

from mmkeras.layers.attention_lstm import AttentionLSTM
from mmkeras.layers.items import ItemMean, Merged
from mmkeras.layers.replica_dropout import Dropout
from mmkeras.layers.saved_model import SavedModelLayer
from mmkeras.layers.scheduled_sampling import ScheduledSampling
from mmkeras.layers.sequence import (
    FullMask,
    PositionEmbedding,
    TokenPooling,
    transformer_block,
)
from mmkeras.layers.temperature import Temperature
from mmkeras.layers.tied_embedding import TiedEmbedding
from mmkeras.layers.unit_vector import UnitVector
from mmkeras.layers.weighted_mean import WeightedMean

# Layers beside the models and encoders that they belong to. Their modules import this
# package, so that they are looked up when all of them are complete.
_ELSEWHERE = {
    "AlignmentScale": "mmkeras.models.auxiliary_heads",
    "BertEmbedding": "mmkeras.modalities.text.bert",
    "CategoryEmbedding": "mmkeras.modalities.tabular.embedding",
    "ChunkedMean": "mmkeras.modalities.audio.encoder",
    "ClassifierAverage": "mmkeras.models.fusion.late",
    "ColourHistogram": "mmkeras.modalities.image.histograms",
    "FrozenBatchNorm": "mmkeras.modalities.image.applications",
    "MissingEmbedding": "mmkeras.models.fusion.missing_modality",
    "MissingToken": "mmkeras.models.fusion.missing_modality",
    "ModalityDropout": "mmkeras.models.fusion.missing_modality",
    "NumberTokens": "mmkeras.modalities.tabular.embedding",
    "OrientedGradients": "mmkeras.modalities.image.histograms",
    "PadTokens": "mmkeras.modalities.text.bert",
    "PeriodicEmbedding": "mmkeras.modalities.tabular.embedding",
    "Standardize": "mmkeras.models.fusion.vector_fusion",
    "TrimPadding": "mmkeras.modalities.text.bert",
    "WaveFeatures": "mmkeras.modalities.audio.waves",
    "WaveMask": "mmkeras.modalities.audio.waves",
    "WaveSavedModel": "mmkeras.modalities.audio.waves",
    "ZeroMissing": "mmkeras.models.fusion.missing_modality",
}
__all__ = [
    "AttentionLSTM",
    "Dropout",
    "FullMask",
    "ItemMean",
    "Merged",
    "PositionEmbedding",
    "SavedModelLayer",
    "ScheduledSampling",
    "Temperature",
    "TiedEmbedding",
    "TokenPooling",
    "UnitVector",
    "WeightedMean",
    "transformer_block",
]
__all__ += sorted(_ELSEWHERE)


def __getattr__(name: str) -> Any:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(_ELSEWHERE[name]), name)


for _module in sorted(set(_ELSEWHERE.values())):
    import_module(_module)
