"""Choice of the format of a pretrained BERT."""

from mmkeras.config import TextConfig
from mmkeras.environment.model_hub import find_model
from mmkeras.modalities.text import hugging_face, kerashub_bert
from mmkeras.modalities.text.pretrained import PretrainedBert


def open_pretrained(text: TextConfig) -> PretrainedBert:
    """Opens the model that `text.weights` names.

    Raises:
        UserError: It cannot be found, fetched or read.

    Example:
        model = open_pretrained(TextConfig(encoder="bert", weights="/models/MiniLM"))
        model.sizes.width, model.pooling, model.normalize  # 384, "mean", True
    """
    if not text.has_model:
        return kerashub_bert.WeightsFile(text)
    source = kerashub_bert.PRESETS.get(text.weights, text.weights)
    path = find_model("text.weights", source)
    if kerashub_bert.is_preset(path):
        return kerashub_bert.Preset(path)
    return hugging_face.HuggingFaceBert(path)
