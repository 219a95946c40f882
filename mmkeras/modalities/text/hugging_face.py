"""Folders of a BERT, DistilBERT or ELECTRA as Hugging Face saves them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from mmkeras.errors import UserError, did_you_mean, one_line
from mmkeras.modalities.text.pieces import check_pieces, read_pieces
from mmkeras.modalities.text.pretrained import BertSizes, PretrainedBert

# Of config.json: our name -> theirs, by model_type; ELECTRA's are BERT's.
_BERT = {
    "pieces": "vocab_size",
    "positions": "max_position_embeddings",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "hidden": "intermediate_size",
    "activation": "hidden_act",
}
_DISTILBERT = {
    "pieces": "vocab_size",
    "positions": "max_position_embeddings",
    "width": "dim",
    "layers": "n_layers",
    "heads": "n_heads",
    "hidden": "hidden_dim",
    "activation": "activation",
}
_CONFIGS = {"bert": _BERT, "electra": _BERT, "distilbert": _DISTILBERT}
_ACTIVATIONS = {
    "gelu": "gelu",
    "relu": "relu",
    **dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_fast"), "gelu_tanh"),
}
# Of a block: our layer -> theirs.
_BERT_BLOCK = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "output": "attention.output.dense",
    "mix_norm": "attention.output.LayerNorm",
    "wide": "intermediate.dense",
    "narrow": "output.dense",
    "norm": "output.LayerNorm",
}
_DISTILBERT_BLOCK = {
    "query": "attention.q_lin",
    "key": "attention.k_lin",
    "value": "attention.v_lin",
    "output": "attention.out_lin",
    "mix_norm": "sa_layer_norm",
    "wide": "ffn.lin1",
    "narrow": "ffn.lin2",
    "norm": "output_layer_norm",
}
_BLOCKS = {
    "bert": ("encoder.layer", _BERT_BLOCK),
    "electra": ("encoder.layer", _BERT_BLOCK),
    "distilbert": ("transformer.layer", _DISTILBERT_BLOCK),
}
_CONFIG, _VOCABULARY, _TOKENIZER = "config.json", "vocab.txt", "tokenizer.json"
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLE = "pytorch_model.bin"
# Of sentence-transformers: its modules that are known here, and its poolings.
_MODULES = ("Transformer", "Pooling", "Normalize")
_POOLINGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}
# Settings of a tokenizer that are not those of BERT.
_OTHER_TOKENIZERS = {"do_basic_tokenize": False, "tokenize_chinese_chars": False}


class HuggingFaceBert(PretrainedBert):
    """A folder with config.json, vocab.txt or tokenizer.json, and model.safetensors."""

    expected = (
        f"Give a folder of a BERT, DistilBERT or ELECTRA with {_CONFIG}, {_VOCABULARY} "
        f"and {_WEIGHTS}."
    )

    def __init__(self, path: Path):
        super().__init__(path)
        self._kind, self.sizes = self._read_sizes()
        self._read_tokenizer()
        self.check_sizes()
        self._read_modules()
        self._open_tensors()

    def _read_sizes(self) -> tuple[str, BertSizes]:
        """Returns the type of the model and its sizes."""
        config = self._read(_CONFIG)
        if config is None:
            raise self.error(f"has no {_CONFIG}")
        kind = config.get("model_type")
        if kind not in _CONFIGS:
            raise self.error(
                f"has a model of type '{kind}', and those with byte-pair or "
                "SentencePiece tokenizers (roberta, xlm-roberta, clip, mpnet, ...) "
                "cannot be read"
            )
        position = config.get("position_embedding_type", "absolute")
        if position != "absolute":
            raise self.error(f"has positions of type '{position}', not 'absolute'")
        try:
            values = {name: config[key] for name, key in _CONFIGS[kind].items()}
        except KeyError as error:
            raise self.error(f"has no {error} in {_CONFIG}") from None
        for name, key in _CONFIGS[kind].items():
            if name != "activation" and type(config[key]) is not int:
                raise self.error(f"has {key}={config[key]} in {_CONFIG}")
        activation = str(values["activation"])
        if activation not in _ACTIVATIONS:
            hint = did_you_mean(activation, list(_ACTIVATIONS))
            raise self.error(f"has the unknown activation '{activation}'.{hint}")
        values["activation"] = _ACTIVATIONS[activation]
        return kind, BertSizes(
            **values,
            epsilon=config.get("layer_norm_eps", 1e-12),
            embedding_width=config.get("embedding_size", values["width"]),
            has_segments=kind != "distilbert",
        )

    def _read_tokenizer(self):
        """Sets the pieces, and what is kept of letters."""
        settings = self._read("tokenizer_config.json") or {}
        saved = self._read(_TOKENIZER) or {}
        kind = saved.get("model", {}).get("type") or "WordPiece"
        if kind != "WordPiece":
            raise self.error(f"has a tokenizer of type '{kind}', not 'WordPiece'")
        name = settings.get("tokenizer_class") or ""
        if "Japanese" in name:
            raise self.error(f"has a tokenizer of its own ({name})")
        for setting, value in _OTHER_TOKENIZERS.items():
            if settings.get(setting) == value:
                raise self.error(f"has a tokenizer with {setting}={value}")
        normalizer = saved.get("normalizer") or {}
        lower = settings.get("do_lower_case", normalizer.get("lowercase", True))
        strip = settings.get("strip_accents", normalizer.get("strip_accents"))
        extra = self._read("sentence_bert_config.json") or {}
        self.keeps_case = not (lower or extra.get("do_lower_case"))
        self.keeps_accents = not (lower if strip is None else strip)
        name = f"text.weights='{self.path}'"
        if "vocab" in saved.get("model", {}) and not (self.path / _VOCABULARY).exists():
            ids = saved["model"]["vocab"]
            self.pieces = check_pieces(sorted(ids, key=ids.get), name)
        else:
            self.pieces = read_pieces(str(self.path / _VOCABULARY), name)

    def _read_modules(self):
        """Sets the pooling, from the files of sentence-transformers."""
        modules = self._read("modules.json") or []
        paths = {m["type"].rpartition(".")[2]: m["path"] for m in modules}
        if unknown := sorted(set(paths) - set(_MODULES)):
            raise self.error(
                f"has modules after the tokens that are unknown here: {unknown}"
            )
        self.normalize = "Normalize" in paths
        if "Pooling" not in paths:
            return
        config = self._read(f"{paths['Pooling']}/{_CONFIG}") or {}
        modes = [k for k, v in config.items() if k.startswith("pooling_mode_") and v]
        names = [_POOLINGS.get(mode, mode) for mode in modes]
        names = names or [config.get("pooling_mode")]
        if len(names) != 1 or names[0] not in _POOLINGS.values():
            raise self.error(f"pools tokens by {names}, not by mean, cls or max")
        (self.pooling,) = names

    def _read(self, name: str) -> Any:
        """Returns the content of a JSON file, None if there is no such file."""
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise self.error(f"has an unreadable {name} ({one_line(error)})") from None

    def _open_tensors(self) -> "Tensors":
        index = self._read(_INDEX)
        files = sorted(set(index["weight_map"].values())) if index else [_WEIGHTS]
        return Tensors([self.path / name for name in files], self.error)

    def layer_weights(self) -> Iterator[tuple[str, list[np.ndarray]]]:
        sizes, tensors = self.sizes, self._open_tensors()
        tables = ("word", "position", "token_type")[: 2 + sizes.has_segments]
        names = [f"embeddings.{table}_embeddings.weight" for table in tables]
        yield "embedding", [tensors[name] for name in names]
        yield "embedding_norm", tensors.norm("embeddings.LayerNorm")
        if sizes.embedding_width != sizes.width:
            yield "embedding_projection", tensors.dense("embeddings_project")
        prefix, names = _BLOCKS[self._kind]
        heads = (sizes.heads, sizes.width // sizes.heads)
        for i in range(sizes.layers):
            theirs = {ours: f"{prefix}.{i}.{name}" for ours, name in names.items()}
            mix = []
            for part in ("query", "key", "value"):
                kernel, bias = tensors.dense(theirs[part])
                mix += [kernel.reshape(-1, *heads), bias.reshape(heads)]
            kernel, bias = tensors.dense(theirs["output"])
            yield f"block{i + 1}_mix", [*mix, kernel.reshape(*heads, -1), bias]
            yield f"block{i + 1}_mix_norm", tensors.norm(theirs["mix_norm"])
            yield f"block{i + 1}_wide", tensors.dense(theirs["wide"])
            yield f"block{i + 1}_narrow", tensors.dense(theirs["narrow"])
            yield f"block{i + 1}_norm", tensors.norm(theirs["norm"])


class Tensors:
    """Tensors of safetensors files by name, with or without the prefix of a task."""

    def __init__(self, paths: list[Path], error: Callable[[str], UserError]):
        self.error, self._files = error, {}
        for path in paths:
            try:
                file = safe_open(path, framework="np")
            except (OSError, SafetensorError) as reason:
                text = f"has no readable {path.name} ({one_line(reason)})"
                if path.with_name(_PICKLE).exists():
                    text = f"has only {_PICKLE}, a format that can run code"
                raise error(text) from None
            for key in file.keys():  # noqa: SIM118 - it is no mapping
                # TensorFlow's BERT had its own names for those of a layer norm.
                name = key.replace(".gamma", ".weight").replace(".beta", ".bias")
                self._files.setdefault(name, []).append((file, key))
                self._files.setdefault(name.partition(".")[2], []).append((file, key))

    def __getitem__(self, name: str) -> np.ndarray:
        """Returns a tensor, float32.

        Raises:
            UserError: There is none, or several, of this name.
        """
        places = self._files.get(name, ())
        if len(places) != 1:
            raise self.error(f"has {len(places)} tensors '{name}' in its weights")
        ((file, key),) = places
        return file.get_tensor(key).astype(np.float32)

    def dense(self, name: str) -> list[np.ndarray]:
        """Returns kernel (inputs, outputs) and bias of a dense layer."""
        return [self[f"{name}.weight"].T, self[f"{name}.bias"]]

    def norm(self, name: str) -> list[np.ndarray]:
        """Returns scale and offset of a layer norm."""
        return [self[f"{name}.weight"], self[f"{name}.bias"]]
