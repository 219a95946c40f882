import json
import re

import numpy as np
import pytest
from ml_dtypes import bfloat16
from safetensors.numpy import save_file

from mmkeras.config import TextConfig
from mmkeras.errors import UserError
from mmkeras.modalities.text.column import Text
from tests.modalities.text.bert_folder import (
    PIECES,
    WIDTH,
    random_tensors,
    run_bert,
    write_folder,
)

IDS = np.int32([[2, 5, 7, 6, 3], [2, 12, 3, 0, 0]])
POOLING = [
    {"type": "sentence_transformers.models.Transformer", "path": ""},
    {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
]
NORMALIZE = {"type": "sentence_transformers.models.Normalize", "path": "2_Normalize"}


def column(folder, **settings):
    return Text("title", TextConfig(encoder="bert", weights=folder, **settings))


def ids_of(text, title):
    graph = title.graph({"title": title.fit(None)})
    (row,) = graph.finish_batch([text]).numpy()
    return row[row != 0].tolist()


@pytest.mark.parametrize(
    ("kind", "prefix", "old_names", "width", "activation"),
    [
        ("bert", "", False, WIDTH, "gelu"),
        ("bert", "bert.", True, WIDTH, "gelu_new"),
        ("electra", "electra.", False, 6, "gelu"),
        ("distilbert", "distilbert.", False, WIDTH, "relu"),
    ],
)
def test_tokens_are_those_of_the_definition(
    kind, prefix, old_names, width, activation, tmp_path
):
    tensors = random_tensors(width)
    config = {"hidden_act": activation, "embedding_size": width}
    folder = write_folder(tmp_path, kind, prefix, old_names, tensors, config=config)
    encoder = column(folder, max_tokens=8).build_backbone(tokens=True)
    if kind == "distilbert":
        del tensors["embeddings.token_type_embeddings.weight"]
    expected = run_bert(tensors, IDS, activation)
    result = np.array(encoder(np.pad(IDS, ((0, 0), (0, 3)))))
    mask = np.pad(IDS, ((0, 0), (0, 3))) != 0
    assert result.shape == (2, 8, WIDTH) and not result[~mask].any()
    np.testing.assert_allclose(result[mask], expected[IDS != 0], atol=1e-5)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode": "max"}, "max"),
    ],
)
def test_the_folder_says_how_tokens_are_pooled(pooling, expected, tmp_path):
    files = {"modules": [*POOLING, NORMALIZE], "1_Pooling__config": pooling}
    folder = write_folder(tmp_path, **files)
    tokens = run_bert(random_tensors(), IDS)
    mask = (IDS != 0)[..., None]
    vector = {
        "mean": (tokens * mask).sum(axis=1) / mask.sum(axis=1),
        "cls": tokens[:, 0],
        "max": np.where(mask, tokens, -np.inf).max(axis=1),
    }
    unit = vector[expected] / np.linalg.norm(vector[expected], axis=1, keepdims=True)
    title = column(folder, max_tokens=5)
    np.testing.assert_allclose(title.build_backbone(False)(IDS), unit, atol=1e-5)
    other = "mean" if expected != "mean" else "cls"
    title = column(folder, max_tokens=5, pooling=other)
    unit = vector[other] / np.linalg.norm(vector[other], axis=1, keepdims=True)
    np.testing.assert_allclose(title.build_backbone(False)(IDS), unit, atol=1e-5)


def test_a_folder_without_a_pooling_has_the_mean_of_any_length(tmp_path):
    title = column(write_folder(tmp_path), max_tokens=5)
    tokens, mask = run_bert(random_tensors(), IDS), (IDS != 0)[..., None]
    mean = (tokens * mask).sum(axis=1) / mask.sum(axis=1)
    np.testing.assert_allclose(title.build_backbone(False)(IDS), mean, atol=1e-5)


def test_weights_of_half_precision_and_of_several_files_are_read(tmp_path):
    tensors = random_tensors()
    folder = write_folder(tmp_path, model={})
    names = sorted(tensors)
    halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for (file, part), dtype in zip(halves.items(), (np.float16, bfloat16), strict=True):
        save_file({n: tensors[n].astype(dtype) for n in part}, tmp_path / file)
    index = {"weight_map": {n: file for file, part in halves.items() for n in part}}
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    result = column(folder, max_tokens=5).build_backbone(True)(IDS)[0]
    np.testing.assert_allclose(result, run_bert(tensors, IDS)[0], atol=0.05)


def test_the_state_has_all_that_preprocessing_needs(tmp_path):
    title = column(write_folder(tmp_path), max_tokens=64)
    state = title.fit(None)
    assert title.statistics() is None and state["width"] == 10  # its positions
    assert state["vocabulary"] == PIECES[2:]
    other = Text("title", TextConfig(encoder="bert", weights="gone"))
    graph = other.graph({"title": state})  # as in a run folder
    (row,) = graph.finish_batch(["Cows"]).numpy()
    assert row.tolist() == [2, 5, 7, 3, 0, 0, 0, 0, 0, 0]


CAFE, E = PIECES.index("café"), PIECES.index("é")


@pytest.mark.parametrize(
    ("tokenizer", "text", "pieces"),
    [
        ({}, "CAFÉ é", [1, 1]),  # without accents they are unknown
        ({"do_lower_case": True}, "[CLS] cows", [8, 10, 9, 5, 7]),
        ({"do_lower_case": True, "strip_accents": False}, "CAFÉ é", [CAFE, E]),
        ({"do_lower_case": False}, "café Café", [CAFE, 1]),
    ],
)
def test_the_tokenizer_says_what_is_kept_of_letters(tokenizer, text, pieces, tmp_path):
    title = column(write_folder(tmp_path, tokenizer_config=tokenizer))
    assert ids_of(text, title) == [2, *pieces, 3]


def test_a_vocabulary_may_be_in_the_file_of_the_tokenizer(tmp_path):
    ids = {piece: i for i, piece in enumerate(PIECES)}
    model = {"type": "WordPiece", "vocab": ids}
    normalizer = {"lowercase": False, "strip_accents": None}
    content = {"model": model, "normalizer": normalizer}
    title = column(write_folder(tmp_path, tokenizer=content))
    (tmp_path / "vocab.txt").unlink()
    assert ids_of("café Café", title) == [2, CAFE, 1, 3]


def config(**entries):
    return {"config": entries}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (config(model_type="roberta"), "model of type 'roberta', and those with byte"),
        (config(hidden_size=None), "hidden_size=None in config.json"),
        (config(hidden_act="geluu"), "unknown activation 'geluu'. Did you mean 'gelu'"),
        (config(num_attention_heads=3), "a width of 8 for 3 heads"),
        (config(vocab_size=5), f"{len(PIECES)} pieces and weights of 5"),
        (config(position_embedding_type="relative_key"), "not 'absolute'"),
        (
            {"tokenizer": {"model": {"type": "BPE"}}},
            "a tokenizer of type 'BPE', not 'WordPiece'",
        ),
        (
            {"tokenizer_config": {"tokenize_chinese_chars": False}},
            "a tokenizer with tokenize_chinese_chars=False",
        ),
        (
            {"tokenizer_config": {"tokenizer_class": "BertJapaneseTokenizer"}},
            r"a tokenizer of its own \(BertJapaneseTokenizer\)",
        ),
        (
            {"modules": [*POOLING, {"type": "a.Dense", "path": "3_Dense"}]},
            r"unknown here: \['Dense'\]",
        ),
        (
            {
                "modules": POOLING,
                "1_Pooling__config": {"pooling_mode_weightedmean_tokens": True},
            },
            "weightedmean_tokens'\\], not by mean, cls or max",
        ),
    ],
)
def test_a_model_that_cannot_be_read_is_refused_in_words(files, message, tmp_path):
    folder = write_folder(tmp_path, **files)
    expected = rf"^text.weights='{re.escape(folder)}' .*{message}.*Give a folder of"
    with pytest.raises(UserError, match=expected):
        column(folder).fetch()


def test_missing_and_damaged_files_are_named(tmp_path):
    folder = write_folder(tmp_path)
    weights = tmp_path / "model.safetensors"

    def fails(message):
        with pytest.raises(UserError, match=message):
            column(folder).fetch()

    weights.write_bytes(weights.read_bytes()[:-100])
    fails("has no readable model.safetensors")
    weights.rename(tmp_path / "pytorch_model.bin")
    fails("has only pytorch_model.bin, a format that can run code")
    (tmp_path / "vocab.txt").unlink()
    fails("has no readable vocabulary")
    (tmp_path / "config.json").write_text("{")
    fails("has an unreadable config.json")
    (tmp_path / "config.json").unlink()
    fails("has no config.json")
    folder = str(tmp_path / "gone")
    fails("text.weights='.*gone' is no folder here.*such as hf://OWNER/NAME")


def test_weights_of_other_sizes_are_refused(tmp_path):
    tensors = random_tensors()
    del tensors["encoder.layer.1.output.dense.bias"]
    folder = write_folder(tmp_path / "a", tensors=tensors)
    message = "has 0 tensors 'encoder.layer.1.output.dense.bias'"
    with pytest.raises(UserError, match=message):
        column(folder).build_backbone(False)
    folder = write_folder(tmp_path / "b", config={"intermediate_size": 16})
    with pytest.raises(UserError, match="weights that do not fit its sizes"):
        column(folder).build_backbone(False)
