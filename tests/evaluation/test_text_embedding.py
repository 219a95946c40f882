import numpy as np

from mmkeras.evaluation.text_embedding import build_embed_texts
from mmkeras.export.inference import load_trained


def test_texts_of_a_label_have_unit_vectors_and_blank_ones_none(generator_run):
    embed_texts = build_embed_texts(load_trained(generator_run))
    vectors = embed_texts(["A red image.", "a RED image.", " ", "all over"])
    assert vectors.shape == (4, 4) and embed_texts([]).shape == (0, 4)
    lengths = np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(lengths, [1, 1, 0, 1], atol=1e-5)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    assert vectors[0] @ vectors[3] < 0.999
