"""Small folders of a BERT, DistilBERT or ELECTRA, and their outputs by NumPy."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from scipy.special import erf, softmax

PIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] cow horse ##s [ ] cls é café".split()
LAYERS, HEADS, WIDTH, HIDDEN, POSITIONS = 2, 2, 8, 12, 10
CONFIG = {
    "model_type": "bert",
    "vocab_size": len(PIECES),
    "max_position_embeddings": POSITIONS,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": HIDDEN,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
}
# Our names of a block's parts -> those of DistilBERT.
_DISTILBERT = {
    "encoder.layer": "transformer.layer",
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}
_DISTILBERT_CONFIG = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "hidden_act": "activation",
}


def random_tensors(embedding_width: int = WIDTH) -> dict[str, np.ndarray]:
    """Returns the tensors of a BERT, or an ELECTRA of another embedding width."""
    random = np.random.default_rng(1)
    tensors = {}

    def add(name, *shape):
        tensors[name] = random.normal(0, 0.4, shape).astype(np.float32)

    def dense(name, inputs, outputs):
        add(f"{name}.weight", outputs, inputs)
        add(f"{name}.bias", outputs)

    def norm(name, width):
        add(f"{name}.weight", width)
        add(f"{name}.bias", width)

    for table, rows in ("word", len(PIECES)), ("position", POSITIONS):
        add(f"embeddings.{table}_embeddings.weight", rows, embedding_width)
    add("embeddings.token_type_embeddings.weight", 2, embedding_width)
    norm("embeddings.LayerNorm", embedding_width)
    if embedding_width != WIDTH:
        dense("embeddings_project", embedding_width, WIDTH)
    for i in range(LAYERS):
        block = f"encoder.layer.{i}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            dense(f"{block}.attention.{part}", WIDTH, WIDTH)
        norm(f"{block}.attention.output.LayerNorm", WIDTH)
        dense(f"{block}.intermediate.dense", WIDTH, HIDDEN)
        dense(f"{block}.output.dense", HIDDEN, WIDTH)
        norm(f"{block}.output.LayerNorm", WIDTH)
    return tensors


def write_folder(
    folder: Path,
    kind: str = "bert",
    prefix: str = "",
    old_names: bool = False,
    tensors: dict[str, np.ndarray] | None = None,
    **files: dict,
) -> str:
    """Writes a folder as Hugging Face does, and returns its path.

    `files` are more JSON files, such as tokenizer_config={...}; config={...} changes
    entries of config.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = dict(random_tensors() if tensors is None else tensors)
    config = CONFIG | {"model_type": kind} | files.pop("config", {})
    if kind == "distilbert":
        del tensors["embeddings.token_type_embeddings.weight"]
        for old, new in _DISTILBERT.items():
            tensors = {k.replace(old, new): x for k, x in tensors.items()}
        config = {_DISTILBERT_CONFIG.get(k, k): x for k, x in config.items()}
    if old_names:
        for old, new in ("Norm.weight", "Norm.gamma"), ("Norm.bias", "Norm.beta"):
            tensors = {k.replace(old, new): x for k, x in tensors.items()}
    tensors = {prefix + name: x for name, x in tensors.items()}
    save_file(tensors, folder / "model.safetensors")
    lines = "".join(f"{piece}\n" for piece in PIECES)
    (folder / "vocab.txt").write_text(lines, encoding="utf-8")
    for name, content in {"config": config, **files}.items():
        path = folder / f"{name.replace('__', '/')}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    return str(folder)


def run_bert(
    tensors: dict[str, np.ndarray], ids: np.ndarray, activation: str = "gelu"
) -> np.ndarray:
    """Returns (B, L, WIDTH), the tokens of a BERT by its definition."""

    def dense(x, name):
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def norm(x, name):
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        x = (x - mean) / np.sqrt(variance + CONFIG["layer_norm_eps"])
        return x * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def heads(x):  # (B, L, D) -> (B, heads, L, D / heads)
        return x.reshape(*x.shape[:2], HEADS, -1).transpose(0, 2, 1, 3)

    x = tensors["embeddings.word_embeddings.weight"][ids]
    x = x + tensors["embeddings.position_embeddings.weight"][: ids.shape[1]]
    if "embeddings.token_type_embeddings.weight" in tensors:
        x = x + tensors["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, "embeddings.LayerNorm")
    if "embeddings_project.weight" in tensors:
        x = dense(x, "embeddings_project")
    for i in range(LAYERS):
        block = f"encoder.layer.{i}"
        query, key, value = (
            heads(dense(x, f"{block}.attention.self.{part}"))
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(WIDTH / HEADS)
        scores = np.where(ids[:, None, None] != 0, scores, -np.inf)
        mix = (softmax(scores, axis=-1) @ value).transpose(0, 2, 1, 3)
        mix = dense(mix.reshape(x.shape), f"{block}.attention.output.dense")
        x = norm(x + mix, f"{block}.attention.output.LayerNorm")
        y = _activate(dense(x, f"{block}.intermediate.dense"), activation)
        x = norm(x + dense(y, f"{block}.output.dense"), f"{block}.output.LayerNorm")
    return x


def _activate(x, kind):
    if kind == "relu":
        return np.maximum(x, 0)
    if kind == "gelu_new":
        return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return x / 2 * (1 + erf(x / np.sqrt(2)))
