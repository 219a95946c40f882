"""Signatures of tf.Examples, and of texts; those of classes are tested with exports."""

import numpy as np
import pytest
import tensorflow as tf

from mmkeras.export.example_signatures import (
    best_texts,
    build_embed_text_signature,
    build_example_signature,
    example_signature,
)
from mmkeras.export.inference import build_serve, load_trained

OUTPUTS = {"text": tf.constant(["a cow", "b"]), "score": tf.constant([-0.5, -1.0])}


@pytest.fixture(scope="module")
def trained_model(generator_run):
    return load_trained(generator_run)


def test_a_regression_has_the_signature_of_values():
    names = [example_signature(task) for task in ("binary", "generate", "regression")]
    assert names == ["classify", "classify", "regress"]


def test_the_best_texts_are_one_or_n():
    texts, scores = best_texts(OUTPUTS)
    assert texts.numpy().tolist() == [[b"a cow"], [b"b"]]
    np.testing.assert_allclose(scores, [[-0.5], [-1.0]])
    several = {"n_best": tf.constant([["x", "y"]]), "n_best_score": tf.zeros((1, 2))}
    texts, scores = best_texts({**OUTPUTS, **several})
    assert texts.shape == scores.shape == (1, 2)


def examples_of(images):
    def example(image):
        value = tf.train.BytesList(value=[image])
        features = {"image": tf.train.Feature(bytes_list=value)} if image else {}
        return tf.train.Example(features=tf.train.Features(feature=features))

    return tf.constant([example(image).SerializeToString() for image in images])


def test_examples_give_the_best_texts_of_a_generator_with_their_scores(
    trained_model, row
):
    serve = build_serve(trained_model)
    signature = build_example_signature(serve, trained_model)
    outputs = signature(inputs=examples_of([row["image"], b""]))
    assert set(outputs) == {"classes", "scores"}
    expected = serve({"image": tf.constant([row["image"], b""])})
    np.testing.assert_array_equal(outputs["classes"], expected["n_best"])
    np.testing.assert_allclose(outputs["scores"], expected["n_best_score"], atol=1e-5)
    np.testing.assert_array_equal(outputs["classes"][:, 0], expected["text"])
    assert signature(inputs=tf.zeros([0], tf.string))["classes"].shape == (0, 2)


def test_texts_have_vectors_of_length_1_and_empty_texts_zeros(trained_model):
    embed = build_embed_text_signature(trained_model)
    texts = ["A red image.", "a RED  image.", "green all over", "", " ", b"\xff"]
    vectors = embed(text=tf.constant(texts))["embedding"].numpy()
    assert vectors.shape == (6, 4)
    lengths = np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(lengths, [1, 1, 1, 0, 0, 0], atol=1e-5)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    assert np.abs(vectors[0] - vectors[2]).max() > 1e-3
