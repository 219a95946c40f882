"""Presets and weights files of KerasHub's BERT."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmkeras.config import TextConfig
from mmkeras.environment.extras import check_extra, import_extra
from mmkeras.errors import one_line
from mmkeras.files import check_file
from mmkeras.modalities.preprocessing_state import RESERVED
from mmkeras.modalities.text.pieces import has_capitals, read_pieces
from mmkeras.modalities.text.pretrained import BertSizes, PretrainedBert

# Our size -> KerasHub's argument.
_ARGUMENTS = {
    "pieces": "vocabulary_size",
    "positions": "max_sequence_length",
    "width": "hidden_dim",
    "layers": "num_layers",
    "heads": "num_heads",
    "hidden": "intermediate_dim",
}
# Names of presets -> their handles.
PRESETS = {
    f"bert_{name}": f"kaggle://keras/bert/keras/bert_{name}"
    for name in (
        "tiny_en_uncased small_en_uncased medium_en_uncased base_en_uncased base_en "
        "base_zh base_multi large_en_uncased large_en"
    ).split()
}


def is_preset(path: Path) -> bool:
    """Whether a folder is a preset of KerasHub, of any model."""
    return (path / "metadata.json").exists()


class _KerasHubBert(PretrainedBert):
    """A BERT whose weights are in a file of KerasHub's backbone."""

    weights_path: Path

    def __init__(self, path: Path):
        super().__init__(path)
        check_extra("keras_hub", f"text.weights='{path}'")

    def _set_sizes(self, **sizes):
        self.sizes = BertSizes(
            **sizes,
            activation="gelu_tanh",
            epsilon=1e-12,
            embedding_width=sizes["width"],
            has_segments=True,
        )

    def _set_pieces(self, path, setting):
        self.pieces = read_pieces(str(path), setting)
        # KerasHub itself keeps accents, with which the models were not trained.
        self.keeps_case = self.keeps_accents = has_capitals(self.pieces)

    def layer_weights(self) -> Iterator[tuple[str, list[np.ndarray]]]:
        from mmkeras.modalities.weights import load_weights_file

        keras_hub = import_extra("keras_hub", f"text.weights='{self.path}'")
        arguments = {a: getattr(self.sizes, s) for s, a in _ARGUMENTS.items()}
        backbone = keras_hub.models.BertBackbone(**arguments)
        load_weights_file(backbone, self.weights_path, "the sizes of text.weights")
        values = {v.path: v.numpy() for v in backbone.variables}

        def layer(name, *parts):
            return [values[f"{name}/{part}"] for part in parts]

        tables = (f"{name}_embedding" for name in ("token", "position", "segment"))
        yield "embedding", [values[f"{table}/embeddings"] for table in tables]
        yield "embedding_norm", layer("embeddings_layer_norm", "gamma", "beta")
        for i in range(self.sizes.layers):
            ours, theirs = f"block{i + 1}", f"transformer_layer_{i}"
            mix = f"{theirs}/self_attention_layer"
            dense = f"{theirs}/feedforward"
            parts = ("query", "key", "value", "attention_output")
            names = [f"{part}/{name}" for part in parts for name in ("kernel", "bias")]
            yield f"{ours}_mix", layer(mix, *names)
            yield f"{ours}_mix_norm", layer(f"{mix}_norm", "gamma", "beta")
            for part, name in ("wide", "intermediate"), ("narrow", "output"):
                yield f"{ours}_{part}", layer(f"{dense}_{name}_dense", "kernel", "bias")
            yield f"{ours}_norm", layer(f"{dense}_layer_norm", "gamma", "beta")


class Preset(_KerasHubBert):
    """A preset folder, with sizes and vocabulary."""

    expected = "Give a preset folder of KerasHub's BertBackbone and its tokenizer."

    def __init__(self, path: Path):
        super().__init__(path)
        try:
            content = json.loads((path / "config.json").read_text(encoding="utf-8"))
            kind, config = content["class_name"], content["config"]
            if kind != "BertBackbone":
                raise self.error(f"is a preset of {kind}")
            self._set_sizes(**{ours: config[a] for ours, a in _ARGUMENTS.items()})
        except (OSError, ValueError, KeyError, TypeError) as error:
            text = f"has an unreadable config.json ({one_line(error)})"
            raise self.error(text) from None
        vocabulary = path / "assets" / "tokenizer" / "vocabulary.txt"
        self._set_pieces(vocabulary, f"text.weights='{path}'")
        self.check_sizes()
        self.weights_path = path / "model.weights.h5"
        if not self.weights_path.exists():
            raise self.error(f"has no {self.weights_path.name}")


class WeightsFile(_KerasHubBert):
    """A .weights.h5 file; sizes and vocabulary are settings."""

    expected = "Give a .weights.h5 file of KerasHub's BertBackbone."

    def __init__(self, text: TextConfig):
        self.weights_path = check_file(
            "text.weights", text.weights, "a model's weights"
        )
        super().__init__(self.weights_path)
        self._set_pieces(text.vocab_file, f"text.vocab_file='{text.vocab_file}'")
        self._set_sizes(
            pieces=len(self.pieces) + RESERVED,
            positions=text.max_tokens,
            width=text.units,
            layers=text.layers,
            heads=text.heads,
            hidden=4 * text.units,
        )
