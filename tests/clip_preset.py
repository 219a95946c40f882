"""Preset folder of a tiny random CLIP with a tiny byte-pair vocabulary."""

import string
from pathlib import Path

import keras
import numpy as np

from mmkeras.modalities.kerashub import keras_hub

SIZE_PX, TOKENS = 32, 16
_SIZES = {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "intermediate_dim": 16}
_SCALING = {"scale": [0.015, 0.016, 0.017], "offset": [-1.8, -1.7, -1.5]}


def write_clip(folder: Path, seed: int = 1) -> "Clip":
    """Writes weights, tokenizer and image converter to a folder."""
    keras.utils.set_random_seed(seed)
    models = keras_hub().models
    vision = models.CLIPVisionEncoder(
        image_shape=(SIZE_PX, SIZE_PX, 3), patch_size=8, name="vision", **_SIZES
    )
    text = models.CLIPTextEncoder(
        vocabulary_size=64,
        embedding_dim=8,
        max_sequence_length=TOKENS,
        name="text",
        **_SIZES,
    )
    backbone = models.CLIPBackbone(vision, text, projection_dim=6)
    for weight in backbone.weights:  # embeddings that differ clearly
        if weight.name == "position_ids":  # zeros, unless weights are loaded
            weight.assign(np.arange(weight.shape[1])[None])
        elif "embedding" in weight.path:
            weight.assign(keras.random.normal(weight.shape, stddev=0.5))
    letters = string.ascii_lowercase
    tokens = [*letters, *(f"{x}</w>" for x in letters), "ca", "cat</w>"]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = models.CLIPTokenizer(
        vocabulary={token: i for i, token in enumerate(tokens)},
        merges=["c a", "ca t</w>"],
        pad_with_end_token=True,
    )
    converter = keras_hub().layers.CLIPImageConverter(
        image_size=(SIZE_PX, SIZE_PX), **_SCALING
    )
    preprocessor = models.CLIPPreprocessor(tokenizer, sequence_length=TOKENS)
    for part in (backbone, preprocessor, converter):
        part.save_to_preset(str(folder))
    return Clip(folder, backbone, dict(zip(tokens, range(len(tokens)), strict=True)))


class Clip:
    """A preset, and CLIP's own probabilities."""

    def __init__(self, folder: Path, backbone: keras.Model, ids: dict[str, int]):
        self.folder, self.backbone, self.ids = folder, backbone, ids

    def probabilities(self, pixels: np.ndarray, prompts: list[str]) -> np.ndarray:
        """Returns (B, C) of (B, S, S, 3) uint8 pixels, by KerasHub's forward pass."""
        logits = self._logits(pixels, prompts)
        return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    def cosines(self, pixels: np.ndarray, prompts: list[str]) -> np.ndarray:
        """Returns (B, C) cosines of the vectors of images and texts."""
        log_scale = float(self.backbone.clip_head.logit_scale)
        return self._logits(pixels, prompts) / np.exp(log_scale)

    def _logits(self, pixels, prompts):
        images = pixels * np.array(_SCALING["scale"]) + np.array(_SCALING["offset"])
        token_ids = np.array([self._token_ids(prompt) for prompt in prompts])
        inputs = {"images": images.astype("float32"), "token_ids": token_ids}
        return np.asarray(self.backbone(inputs)["vision_logits"], "float64")

    def _token_ids(self, prompt):
        """Returns the ids of a prompt whose only merged word is cat."""
        tokens = []
        for word in prompt.lower().split():
            letters = [*word[:-1], f"{word[-1]}</w>"]
            tokens += ["cat</w>"] if word == "cat" else letters
        ids = [self.ids[token] for token in tokens][: TOKENS - 2]
        ids = [self.ids["<|startoftext|>"], *ids, self.ids["<|endoftext|>"]]
        return ids + [self.ids["<|endoftext|>"]] * (TOKENS - len(ids))
