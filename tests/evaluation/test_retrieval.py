import numpy as np
import pytest

from mmkeras.evaluation.retrieval import Nearest, recall, recalls


def unit(rows, width=8, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, width)).astype("float32")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_each_row_finds_itself_among_different_ones():
    vectors = unit(600)  # more than one block
    assert (recall(vectors, vectors) == 1).all()


def test_ranks_are_counted_over_all_rows():
    queries = np.eye(12, dtype="float32")
    sought = np.eye(12, dtype="float32")
    sought[0] = 0.5 * queries[0]
    sought[1:4, 0] = 0.6  # three rows are nearer to the first query than its own
    hits = recall(queries, sought)
    assert hits[:, 0].tolist() == [0, 1, 1]
    assert (hits[:, 1:] == 1).all()


def test_equal_vectors_for_all_rows_are_as_good_as_chance():
    same = np.ones((20, 3), "float32")
    np.testing.assert_allclose(recall(same, same).mean(axis=1), [0.05, 0.25, 0.5])


def test_random_vectors_are_about_as_good_as_chance():
    found = recalls({"text": unit(500, seed=1), "image": unit(500, seed=2)}, 200, 0)
    assert list(found) == ["text_to_image", "image_to_text"]
    for measured in found.values():
        for k in (1, 5, 10):
            value = measured[f"recall_at_{k}"]
            assert measured["chance"][f"recall_at_{k}"] == pytest.approx(k / 500)
            assert value["low"] <= value["value"] <= value["high"]
            assert value["value"] < 0.05


def test_rows_that_lack_one_are_neither_asked_nor_found():
    text, image = unit(30), unit(30)
    text[3] = image[4] = 0
    found = recalls({"text": text, "image": image}, 50, 0)["text_to_image"]
    assert found["rows"] == 28 and found["recall_at_1"]["value"] == 1
    assert recalls({"text": text, "image": np.zeros_like(image)}, 50, 0) == {}
    assert recalls({}, 50, 0) == {}


def test_the_nearest_of_any_number_of_batches_are_kept():
    rows, query = unit(1000), unit(1, seed=9)[0]
    rows[17] = 0
    nearest = Nearest(query, 5)
    for start in range(0, 1000, 64):
        batch = rows[start : start + 64]
        nearest.add(batch, list(range(start, start + len(batch))))
    cosines = rows @ query
    cosines[17] = -2
    expected = np.argsort(-cosines, kind="stable")[:5]
    assert nearest.searched == 999
    assert [row for _, row in nearest.found()] == expected.tolist()
    np.testing.assert_allclose([c for c, _ in nearest.found()], cosines[expected])


def test_of_equally_near_rows_the_earlier_come_first():
    nearest = Nearest(np.float32([1, 0]), 2)
    nearest.add(np.float32([[1, 0], [1, 0]]), ["a", "b"])
    nearest.add(np.float32([[1, 0]]), ["c"])
    assert nearest.found() == [(1.0, "a"), (1.0, "b")]
