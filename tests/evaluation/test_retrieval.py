import numpy as np
import pytest

from mmkeras.evaluation.retrieval import NearestRows, compute_recall, measure_retrieval


def unit(rows, width=8, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, width)).astype("float32")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_ranks_are_counted_over_all_rows():
    queries, targets = np.eye(12, dtype="float32"), np.eye(12, dtype="float32")
    targets[0] = 0.5 * queries[0]
    targets[1:4, 0] = 0.6  # three rows are nearer to the first query than its own
    recall = compute_recall(queries, targets)
    assert recall[:, 0].tolist() == [0, 1, 1]
    assert (recall[:, 1:] == 1).all()


def test_equal_vectors_for_all_rows_are_as_good_as_chance():
    same = np.ones((20, 3), "float32")
    recall = compute_recall(same, same).mean(axis=1)
    np.testing.assert_allclose(recall, [0.05, 0.25, 0.5])


def test_random_vectors_are_about_as_good_as_chance():
    # More than one block.
    vectors = {"text": unit(600, seed=1), "image": unit(600, seed=2)}
    result = measure_retrieval(vectors, 200, 0)
    assert list(result) == ["text_to_image", "image_to_text"]
    for entry in result.values():
        for k in (1, 5, 10):
            recall = entry[f"recall_at_{k}"]
            assert entry["chance"][f"recall_at_{k}"] == pytest.approx(k / 600)
            assert recall["low"] <= recall["value"] <= recall["high"]
            assert recall["value"] < 0.05


def test_rows_without_one_of_the_modalities_are_left_out():
    text, image = unit(30), unit(30)
    text[3] = image[4] = 0
    result = measure_retrieval({"text": text, "image": image}, 50, 0)["text_to_image"]
    assert result["rows"] == 28 and result["recall_at_1"]["value"] == 1
    empty = {"text": text, "image": np.zeros_like(image)}
    assert measure_retrieval(empty, 50, 0) == measure_retrieval({}, 50, 0) == {}


def test_rows_with_one_text_are_all_right_and_a_text_is_searched_once():
    captions = np.repeat(["a cat", "A  cat", "a dog", "a cow"], 5)
    images = np.repeat(np.eye(3, dtype="float32")[[0, 0, 1, 2]], 5, axis=0)
    vectors = {"image": images, "caption": images}
    result = measure_retrieval(vectors, 50, 0, {"caption": captions})
    for entry in result.values():
        assert entry["rows"] == 20 and entry["recall_at_1"]["value"] == 1
    assert result["image_to_caption"]["chance"]["recall_at_1"] == pytest.approx(1 / 3)
    chance = result["caption_to_image"]["chance"]
    assert chance["recall_at_1"] == pytest.approx((10 / 20 + 2 * 5 / 20 / 2) / 2)
    none = 1 - (15 * 14 * 13 * 12 * 11) / (20 * 19 * 18 * 17 * 16)
    cats = 1 - (10 * 9 * 8 * 7 * 6) / (20 * 19 * 18 * 17 * 16)
    assert chance["recall_at_5"] == pytest.approx((cats + none) / 2)


def test_the_nearest_rows_of_many_batches_are_ranked():
    rows, query = unit(1000), unit(1, seed=9)[0]
    rows[17] = 0
    nearest = NearestRows(query, 5)
    for start in range(0, 1000, 64):
        batch = rows[start : start + 64]
        nearest.add(batch, list(range(start, start + len(batch))))
    cosines = rows @ query
    cosines[17] = -2
    expected = np.argsort(-cosines, kind="stable")[:5]
    ranked_cosines, ranked_rows = zip(*nearest.ranking(), strict=True)
    assert nearest.searched == 999
    assert list(ranked_rows) == expected.tolist()
    np.testing.assert_allclose(ranked_cosines, cosines[expected])


def test_of_rows_with_an_equal_key_the_nearest_is_collected():
    nearest = NearestRows(np.float32([1, 0]), 2, key=lambda row: row[0])
    nearest.add(np.float32([[0.6, 0.8], [0.8, 0.6]]), ["a1", "b1"])
    nearest.add(np.float32([[1, 0], [0, 1], [0.6, 0.8]]), ["a2", "c1", "b2"])
    assert [row for _, row in nearest.ranking()] == ["a2", "b1"]


def test_of_equally_near_rows_the_earlier_come_first():
    nearest = NearestRows(np.float32([1, 0]), 2)
    nearest.add(np.float32([[1, 0], [1, 0]]), ["a", "b"])
    nearest.add(np.float32([[1, 0]]), ["c"])
    assert nearest.ranking() == [(1.0, "a"), (1.0, "b")]
