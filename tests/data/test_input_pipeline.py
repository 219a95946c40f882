from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from mmkeras.config import AugmentConfig, TrainConfig
from mmkeras.data.fit_preprocessing import fit_preprocessing
from mmkeras.data.ingest import ingest
from mmkeras.data.input_pipeline import Batches, class_weights, image_batches, read_rows
from mmkeras.modalities.preprocessor import Preprocessor
from tests import table_factory

AUGMENT = AugmentConfig(
    flip=True, crop=0.2, colour=0.2, spec_bands=4, spec_frames=0.2, word_dropout=0.3
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Ingests 40 rows, some with absent modalities; changes are settings."""
    base = tmp_path_factory.mktemp("data")
    rows = table_factory.make_rows(classes=("red", "green", "blue"))
    rows[3]["audio"] = rows[4]["image"] = rows[5]["text"] = ""
    table = table_factory.write_table(base / "data.csv", rows)
    dataset = ingest(table, table_factory.tiny_config(base / "cache"))

    config = table_factory.tiny_config(base / "cache")
    traced = Preprocessor(config, fit_preprocessing(dataset, config))

    def make(split="train", **changes):
        config = table_factory.tiny_config(base / "cache", **changes)
        preprocessor = copy(traced)  # tracing the decoders anew takes seconds
        preprocessor.config = config
        if changes.keys() & {"text", "image", "audio"}:
            preprocessor = Preprocessor(config, fit_preprocessing(dataset, config))
        return Batches(dataset=dataset, preprocessor=preprocessor, split=split)

    return make


def as_numpy(batches):
    return [tf.nest.map_structure(lambda x: x.numpy(), batch) for batch in batches]


def assert_equal(one, other):
    assert len(one) == len(other)
    tf.nest.map_structure(np.testing.assert_array_equal, one, other)


# Epochs -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def three_epochs(made):
    return as_numpy(made(augment=AUGMENT).augmented([1, 2, 3]))


def test_the_same_seed_and_epochs_give_the_same_batches(made, three_epochs):
    assert len(three_epochs) == 9  # 24 rows in batches of 8, three times
    assert_equal(as_numpy(made(augment=AUGMENT).augmented([1, 2, 3])), three_epochs)


def test_an_epoch_alone_is_what_it_is_in_the_middle_of_a_run(made, three_epochs):
    assert_equal(as_numpy(made(augment=AUGMENT).augmented([3])), three_epochs[6:])


def test_each_epoch_and_each_seed_brings_other_changes(made, three_epochs):
    other_seed = as_numpy(made(augment=AUGMENT, seed=1).augmented([1]))
    for name in ("image", "text", "audio"):
        first, second, other = (
            np.concatenate([inputs[name] for inputs, *_ in batches]).reshape(24, -1)
            for batches in (three_epochs[:3], three_epochs[3:6], other_seed)
        )
        first, second, other = (np.sort(x, 0) for x in (first, second, other))
        assert (first != second).any() and (first != other).any(), name


def test_without_augmentation_epochs_differ_in_order_only(made):
    one, two = as_numpy(made(train={"batch_size": 24}).augmented([0, 1]))
    assert (one[1] != two[1]).any()
    for name in ("image", "text", "audio", "present"):
        rows = [sorted(map(bytes, batch[0][name])) for batch in (one, two)]
        assert rows[0] == rows[1]


def test_what_is_not_kept_in_memory_comes_out_the_same(made, three_epochs):
    read_anew = made(augment=AUGMENT, train={"cache_mb": 0}).augmented([1, 2])
    assert_equal(as_numpy(read_anew), three_epochs[:6])


@pytest.mark.parametrize("cache_mb", [0, 100])
def test_batches_that_are_gone_over_again_stay_the_same(cache_mb, made, monkeypatch):
    batches = made("val", train={"cache_mb": cache_mb})
    once, again = as_numpy(batches.plain()), batches.plain(again=True)
    assert_equal(as_numpy(again), once)
    for file in batches.dataset.files("val"):
        aside = Path(file).rename(f"{file}.aside")
    try:
        if cache_mb:
            assert_equal(as_numpy(again), once)  # from memory
        else:
            with pytest.raises(tf.errors.NotFoundError):
                as_numpy(again)
    finally:
        aside.rename(file)


def test_a_last_batch_of_few_rows_is_left_out_of_training_only(made):
    batches = made(train={"batch_size": 10})
    assert [len(y) for _, y, _ in batches.augmented([0])] == [10, 10]
    assert batches.steps == 2
    assert [len(y) for _, y, _ in batches.plain()] == [10, 10, 4]
    assert [len(y) for _, y, _ in made(train={"batch_size": 99}).augmented([0])] == [24]


# No skew ----------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "val"])
def test_plain_batches_are_what_serving_makes_of_the_same_bytes(made, split):
    batches = made(split, augment=AUGMENT)
    preprocessor = batches.preprocessor
    files = batches.dataset.files(split)
    raw = list(read_rows(files, preprocessor.modalities).batch(8))
    plain = as_numpy(batches.plain())
    assert sum(len(y) for _, y, _ in plain) == batches.rows == len(raw) * 8
    absent = 0
    for strings, (inputs, target, weight) in zip(raw, plain, strict=True):
        served, _ = preprocessor({m: strings[m] for m in preprocessor.modalities})
        np.testing.assert_array_equal(inputs["present"], served["present"])
        for i, modality in enumerate(preprocessor.modalities):
            there = inputs["present"][:, i] == 1
            absent += (~there).sum()
            np.testing.assert_array_equal(
                inputs[modality][there], served[modality].numpy()[there]
            )
        classes = np.array(preprocessor.state.classes)
        labels = [label.decode() for label in strings["label"].numpy()]
        assert list(classes[target.argmax(axis=1)]) == labels
        np.testing.assert_array_equal(weight, np.ones(len(target)))
    assert absent == (3 if split == "train" else 0)


def test_pictures_are_those_of_the_rows_in_their_order(made):
    batches = made()
    alone = image_batches(batches.dataset, batches.preprocessor, "train")
    one = np.concatenate([pixels.numpy() for pixels in alone])
    other = np.concatenate([x["image"] for x, *_ in as_numpy(batches.plain())])
    np.testing.assert_array_equal(one, other)
    assert (one.reshape(24, -1).max(axis=1) == 0).sum() == 1  # zeros where absent


# Targets and weights ----------------------------------------------------------


def first_targets(tmp_path, labels):
    rows = [
        {"split": split, "label": labels[i % len(labels)], "text": f"word {i}"}
        for i, split in enumerate(table_factory.FORTY)
    ]
    config = table_factory.tiny_config(tmp_path / "cache")
    dataset = ingest(table_factory.write_table(tmp_path / "t.csv", rows), config)
    state = fit_preprocessing(dataset, config)
    preprocessor = Preprocessor(config, state)
    batches = Batches(dataset=dataset, preprocessor=preprocessor, split="test")
    return state, batches, as_numpy(batches.plain())[0][1]


def test_a_binary_target_is_one_column_the_second_class(tmp_path):
    state, _, target = first_targets(tmp_path, ["yes", "no"])
    assert (state.task, state.classes) == ("binary", ("no", "yes"))
    np.testing.assert_array_equal(target, [[1], [0]] * 4)


def test_a_multilabel_target_has_a_one_at_each_label(tmp_path):
    state, _, target = first_targets(tmp_path, ["b|a", "c"])
    assert (state.task, state.classes) == ("multilabel", ("a", "b", "c"))
    np.testing.assert_array_equal(target, [[1, 1, 0], [0, 0, 1]] * 4)


def test_a_row_weighs_what_its_class_does_or_its_classes_on_average(tmp_path):
    _, batches, _ = first_targets(tmp_path, ["b|a", "c"])
    weighted = replace(batches, class_weights=(1.0, 3.0, 5.0))
    (_, _, weight) = as_numpy(weighted.plain())[0]
    np.testing.assert_array_equal(weight, [2, 5] * 4)


def test_effective_weights_follow_their_formula():
    config = TrainConfig(class_weights="effective", class_beta=0.9)
    rows = np.array([1, 10, 100])
    expected = (1 - 0.9) / (1 - 0.9**rows)
    found = np.array(class_weights(rows, config))
    np.testing.assert_allclose(found / found[0], expected / expected[0], rtol=1e-9)
    assert (found * rows).sum() == pytest.approx(rows.sum())
    balanced = np.array(class_weights(rows, TrainConfig()))
    np.testing.assert_allclose(balanced, 111 / (3 * rows))
    assert balanced[0] / balanced[2] > found[0] / found[2] > 1
    assert class_weights(rows, TrainConfig(class_weights="none")) == ()
    none = np.array(class_weights(rows, replace(config, class_beta=0.0)))
    np.testing.assert_allclose(none, 1)


@pytest.mark.parametrize("cache_mb", [1024, 0])
def test_oversampling_makes_classes_equally_common(cache_mb, tmp_path):
    names = ["red"] * 4 + ["green"] * 20
    rows = table_factory.make_rows()
    for row, name in zip(rows, names, strict=False):
        row["label"] = name
    train = {"oversample": True, "class_weights": "none", "cache_mb": cache_mb}
    config = table_factory.tiny_config(
        tmp_path / "c", train=train, table={"modalities": "text"}
    )
    dataset = ingest(table_factory.write_table(tmp_path / "d.csv", rows), config)
    preprocessor = Preprocessor(config, fit_preprocessing(dataset, config))
    batches = Batches(dataset=dataset, preprocessor=preprocessor, split="train")
    epochs = [as_numpy(batches.augmented([e])) for e in range(12)]
    assert all(len(epoch) == 3 for epoch in epochs)  # as many rows as there are
    green, red = [
        np.array([sum((t == v).sum() for _, t, _ in epoch) for epoch in epochs])
        for v in (0, 1)
    ]
    assert (green + red == 24).all()
    assert 10 < red.mean() < 14  # 4 of 24 without it
    assert len(set(red.tolist())) > 1  # drawn anew
    assert_equal(as_numpy(batches.augmented([3])), epochs[3])


@pytest.mark.parametrize("shape", [(6,), (3, 2)])  # a vector, or tokens
def test_computed_vectors_take_the_place_of_the_pictures(shape, made, tmp_path):
    vectors = np.arange(24 * 6, dtype=np.float32).reshape(24, *shape)
    vectors.tofile(tmp_path / "train.f32")
    path = tmp_path / "train.f32"
    batches = replace(made(augment=AUGMENT), image_vectors=path, image_shape=shape)
    plain = as_numpy(batches.plain())
    there = np.concatenate([x["present"] for x, *_ in plain])[:, 1] == 1
    seen = np.concatenate([x["image"] for x, *_ in plain])
    np.testing.assert_array_equal(seen[there], vectors[there])
    shuffled = np.concatenate(
        [x["image"] for x, *_ in as_numpy(batches.augmented([0]))]
    )
    first = shuffled.reshape(24, -1)[:, 0]
    np.testing.assert_array_equal(shuffled[np.argsort(first)], vectors)


def test_a_damaged_shard_is_an_error_and_not_fewer_rows(made, tmp_path):
    (file,) = made().dataset.files("val")
    (tmp_path / "cut").write_bytes(Path(file).read_bytes()[:-100])
    with pytest.raises(tf.errors.DataLossError):
        list(read_rows([str(tmp_path / "cut")], ["text"]))
