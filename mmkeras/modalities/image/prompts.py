"""Vectors of class names, by the text encoder beside that of images in a preset."""

import json
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from mmkeras.errors import UserError
from mmkeras.modalities.kerashub import find_preset, load_preprocessor, load_preset

_SETTING = "image.weights"
# Backbones with encoders of images and of texts -> KerasHub's preprocessing of both.
_PREPROCESSORS = {
    "CLIPBackbone": "CLIPPreprocessor",
    "SigLIPBackbone": "SigLIPPreprocessor",
    "MetaCLIP2Backbone": "MetaCLIP2CausalLMPreprocessor",
}
_BATCH_PROMPTS = 64


def check_pair(preset: str) -> int:
    """Fetches a preset once, and checks that it encodes images and texts.

    Returns the side of its images, in pixels.

    Raises:
        UserError: It cannot be found or fetched, or is another preset.
    """
    path = find_preset(_SETTING, preset) / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        kind = content.get("class_name") or content.get("model_type", "model")
        if kind in _PREPROCESSORS:
            return content["config"]["vision_encoder"]["config"]["image_shape"][0]
    except (ValueError, LookupError, TypeError, AttributeError):
        kind = "folder with a damaged config.json"
    raise UserError(
        f"{_SETTING}='{preset}' is a {kind}, without KerasHub's encoders of images and "
        "of texts that zero-shot classification compares; give a preset of KerasHub's "
        "CLIP, SigLIP or MetaCLIP 2, such as clip_vit_base_patch32."
    )


def encode_prompts(preset: str, prompts: Sequence[str]) -> tuple[np.ndarray, float]:
    """Returns unit vectors (N, D) float32 of texts, and the scale of their cosines.

    The softmax of scale * cosine with an image's vector, over the texts of the classes,
    is CLIP's probability of each class. For SigLIP, which was trained with a sigmoid
    per pair, its scale is used in the same way; its bias has no effect.

    Raises:
        UserError: The preset cannot be loaded, or has no tokenizer.

    Source: Radford et al., 2021, https://arxiv.org/abs/2103.00020.

    Example:
        vectors, scale = encode_prompts("clip_vit_base_patch32", ["a photo of a cat"])
    """
    backbone = load_preset(_SETTING, preset)
    kind = _PREPROCESSORS[type(backbone).__name__]
    length = backbone.text_encoder.max_sequence_length
    preprocessor = load_preprocessor(_SETTING, preset, kind, length)
    parts = []
    for start in range(0, len(prompts), _BATCH_PROMPTS):
        tokens = _tokenize(preprocessor, list(prompts[start : start + _BATCH_PROMPTS]))
        vectors = backbone.get_text_embeddings(ops.convert_to_tensor(tokens, "int32"))
        parts.append(ops.convert_to_numpy(vectors).astype("float32"))
    vectors = np.concatenate(parts)
    (log_scale,) = [w for w in backbone.weights if w.name == "logit_scale"]
    scale = float(np.exp(ops.convert_to_numpy(log_scale)))
    return keras.utils.normalize(vectors), scale


def _tokenize(preprocessor, texts):
    """Returns (B, L) token ids."""
    if preprocessor.backbone_cls:  # not that of CLIP in KerasHub 0.21
        preprocessor.image_converter = None
        blank = np.zeros((len(texts), 1), "float32")  # in the place of images
        texts = {"prompts": texts, "images": blank}
    return preprocessor(texts)["token_ids"]
