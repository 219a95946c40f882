from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from mmkeras.config import AugmentConfig
from mmkeras.data.fit_preprocessing import fit_preprocessing
from mmkeras.data.ingest import ingest
from mmkeras.data.input_pipeline import Batches, Features, branch_batches
from mmkeras.data.stored_rows import COLUMNS, read_rows
from mmkeras.modalities.preprocessor import Preprocessor
from tests import table_factory

AUGMENT = AugmentConfig(
    flip=True, crop=0.2, colour=0.2, spec_bands=4, spec_frames=0.2, word_dropout=0.3
)


def ingest_batches(folder, rows, split="train", **changes):
    config = table_factory.tiny_config(folder / "cache", **changes)
    dataset = ingest(table_factory.write_table(folder / "data.csv", rows), config)
    preprocessor = Preprocessor(config, fit_preprocessing(dataset, config))
    return Batches(dataset=dataset, preprocessor=preprocessor, split=split)


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Makes batches of 40 rows, some with absent modalities; changes are settings."""
    folder = tmp_path_factory.mktemp("data")
    rows = table_factory.make_rows(classes=("red", "green", "blue"))
    rows[3]["audio"] = rows[4]["image"] = rows[5]["text"] = ""
    batches = ingest_batches(folder, rows)

    def make_with(split="train", **changes):
        preprocessor = copy(batches.preprocessor)  # tracing the decoders takes seconds
        preprocessor.config = table_factory.tiny_config(folder / "cache", **changes)
        return replace(batches, preprocessor=preprocessor, split=split)

    return make_with


def as_numpy(batches):
    return [tf.nest.map_structure(lambda x: x.numpy(), batch) for batch in batches]


def assert_equal(one, other):
    assert len(one) == len(other)
    tf.nest.map_structure(np.testing.assert_array_equal, one, other)


def inputs_of(batches, name):
    return np.concatenate([inputs[name] for inputs, *_ in batches])


@pytest.fixture(scope="module")
def three_epochs(make):
    return as_numpy(make(augment=AUGMENT).train_batches([1, 2, 3]))


def test_the_same_seed_and_epochs_give_the_same_batches(make, three_epochs):
    assert len(three_epochs) == 9  # 24 rows in batches of 8, three times
    batches = make(augment=AUGMENT)
    assert_equal(as_numpy(batches.train_batches([1, 2, 3])), three_epochs)
    assert_equal(as_numpy(batches.train_batches([3])), three_epochs[6:])


def test_each_epoch_and_each_seed_gives_other_changes(make, three_epochs):
    other_seed = as_numpy(make(augment=AUGMENT, seed=1).train_batches([1]))
    for name in ("image", "text", "audio"):
        first, second, other = (
            np.sort(inputs_of(batches, name).reshape(24, -1), 0)
            for batches in (three_epochs[:3], three_epochs[3:6], other_seed)
        )
        assert (first != second).any() and (first != other).any(), name


def test_without_augmentation_epochs_differ_in_order_only(make):
    one, two = as_numpy(make(train={"batch_size": 24}).train_batches([0, 1]))
    assert (one[1] != two[1]).any()
    for name in ("image", "text", "audio", "present"):
        rows = [sorted(map(bytes, batch[0][name])) for batch in (one, two)]
        assert rows[0] == rows[1]


@pytest.mark.parametrize("augment", [AUGMENT, {"flip": True}, {}])
def test_batches_that_do_not_fit_in_memory_are_the_same(augment, make):
    batches = [
        make(augment=augment, train={"batch_size": 7, "cache_mb": size_mb})
        for size_mb in (1024, 0)
    ]
    assert_equal(*(as_numpy(each.train_batches([1, 2])) for each in batches))


@pytest.mark.parametrize("cache_mb", [0, 100])
def test_repeated_batches_stay_the_same(cache_mb, make):
    batches = make("val", train={"cache_mb": cache_mb})
    once, again = as_numpy(batches.eval_batches()), batches.eval_batches(again=True)
    assert_equal(as_numpy(again), once)
    (file,) = map(Path, batches.dataset.files("val"))
    moved = file.rename(f"{file}.moved")
    try:
        if cache_mb:
            assert_equal(as_numpy(again), once)  # from memory
        else:
            with pytest.raises(tf.errors.NotFoundError):
                as_numpy(again)
    finally:
        moved.rename(file)


# 24 rows in batches of at most 11, of a multiple of the devices.
@pytest.mark.parametrize(
    ("cache_mb", "devices", "size"), [(1024, 1, 8), (1024, 5, 10), (0, 5, 10)]
)
def test_every_row_is_trained_once_and_the_last_batch_is_filled_up(
    cache_mb, devices, size, make
):
    batches = make(train={"batch_size": 11, "cache_mb": cache_mb})
    batches = replace(batches, devices=devices)
    epoch = as_numpy(batches.train_batches([0]))
    assert batches.steps == 3 and [len(y) for _, y, _ in epoch] == [size] * 3
    weights, fillers = np.concatenate([weight for *_, weight in epoch]), 3 * size - 24
    np.testing.assert_allclose(weights, [3 * size / 24] * 24 + [0] * fillers)
    assert weights.mean() == pytest.approx(1)
    names = [row.tobytes() for inputs, *_ in epoch for row in inputs["audio"]]
    evaluated = as_numpy(batches.eval_batches())
    assert [len(y) for _, y, _ in evaluated] == [11, 11, 2]
    rows = [row.tobytes() for inputs, *_ in evaluated for row in inputs["audio"]]
    assert sorted(names[:24]) == sorted(rows) and names[24:] == rows[:fillers]


def test_an_epoch_of_two_passes_has_the_batches_of_two_epochs(make, three_epochs):
    batches = make(train={"passes": 2}, augment=AUGMENT)
    assert batches.steps == 2 * make(augment=AUGMENT).steps
    assert_equal(as_numpy(batches.train_batches([1])), three_epochs[3:])


def test_a_batch_is_not_larger_than_the_table(make):
    ((_, targets, weights),) = as_numpy(
        make(train={"batch_size": 99}).train_batches([0])
    )
    assert len(targets) == 24 and (weights == 1).all()


def test_a_batch_has_a_row_for_each_of_many_devices(make):
    batches = replace(make(train={"batch_size": 64}), devices=64)
    ((inputs, _, weights),) = as_numpy(batches.train_batches([0]))
    assert len(weights) == 64 and (weights > 0).sum() == 24
    rows = inputs_of(as_numpy(batches.eval_batches()), "audio")
    np.testing.assert_array_equal(inputs["audio"][24:48], rows)
    np.testing.assert_array_equal(inputs["audio"][48:], rows[:16])


@pytest.mark.parametrize(("split", "absent"), [("train", 3), ("val", 0)])
def test_eval_batches_are_what_serving_makes_of_the_same_bytes(make, split, absent):
    batches = make(split, augment=AUGMENT)
    preprocessor = batches.preprocessor
    files = batches.dataset.files(split)
    raw = list(read_rows(files, preprocessor.columns.values()).batch(8))
    evaluated = as_numpy(batches.eval_batches())
    assert sum(len(y) for _, y, _ in evaluated) == batches.rows == len(raw) * 8
    assert (inputs_of(evaluated, "present") == 0).sum() == absent
    for strings, (inputs, target, weight) in zip(raw, evaluated, strict=True):
        served, _ = preprocessor(strings[COLUMNS])
        np.testing.assert_array_equal(inputs["present"], served["present"])
        for i, modality in enumerate(preprocessor.branches):
            present = inputs["present"][:, i] == 1
            expected = served[modality].numpy()[present]
            np.testing.assert_array_equal(inputs[modality][present], expected)
        classes = np.array(preprocessor.state.classes)
        labels = [label.decode() for label in strings["label"].numpy()]
        assert list(classes[target.argmax(axis=1)]) == labels
        np.testing.assert_array_equal(weight, np.ones(len(target)))


def test_images_are_those_of_the_rows_in_their_order(make):
    batches = make()
    images = branch_batches(batches.dataset, batches.preprocessor, "image", "train")
    images = np.concatenate([pixels.numpy() for pixels in images])
    expected = inputs_of(as_numpy(batches.eval_batches()), "image")
    np.testing.assert_array_equal(images, expected)
    assert (images.reshape(24, -1).max(axis=1) == 0).sum() == 1  # zeros where absent


@pytest.mark.parametrize(
    ("labels", "task", "classes", "target", "weight"),
    [
        (["yes", "no"], "binary", ("no", "yes"), [[1], [0]], [3, 1]),
        (["b|a", "c"], "multilabel", ("a", "b", "c"), [[1, 1, 0], [0, 0, 1]], [2, 5]),
        (["b|a", "[]"], "multilabel", ("a", "b"), [[1, 1], [0, 0]], [2, 1]),
    ],
)
def test_targets_follow_the_classes(labels, task, classes, target, weight, tmp_path):
    rows = table_factory.texts(label=labels * 20)
    batches = ingest_batches(tmp_path, rows, "test")
    batches = replace(batches, class_weights=(1.0, 3.0, 5.0)[: len(classes)])
    state = batches.preprocessor.state
    assert (state.task, state.classes) == (task, classes)
    ((_, targets, weights),) = as_numpy(batches.eval_batches())
    np.testing.assert_array_equal(targets, target * 4)
    np.testing.assert_array_equal(weights, weight * 4)  # mean over a row's classes


@pytest.mark.parametrize("cache_mb", [1024, 0])
def test_oversampling_makes_classes_equally_common(cache_mb, tmp_path):
    labels = ["red"] * 4 + ["green"] * 20 + ["red", "green"] * 8
    rows = table_factory.texts(label=labels)
    train = {"oversample": True, "class_weights": "none", "cache_mb": cache_mb}
    batches = ingest_batches(tmp_path, rows, train=train)
    epochs = as_numpy(batches.train_batches(range(12)))
    assert len(epochs) == 12 * 3  # as many rows as without it
    targets = np.array([target for _, target, _ in epochs]).reshape(12, 24)
    red = targets.sum(axis=1)
    assert 10 < red.mean() < 14  # 4 of 24 without it
    assert len(set(red.tolist())) > 1  # other rows in each epoch
    assert_equal(as_numpy(batches.train_batches([3])), epochs[9:12])


@pytest.mark.parametrize("shape", [(6,), (3, 2)])  # a vector, or tokens
def test_features_replace_the_images(shape, make, tmp_path):
    vectors = np.arange(24 * 6, dtype=np.float32).reshape(24, *shape)
    path = tmp_path / "train.f32"
    vectors.tofile(path)
    batches = replace(
        make(augment=AUGMENT), features={"image": Features((path,), shape)}
    )
    evaluated = as_numpy(batches.eval_batches())
    present = inputs_of(evaluated, "present")[:, 1] == 1
    images = inputs_of(evaluated, "image")
    np.testing.assert_array_equal(images[present], vectors[present])
    shuffled = inputs_of(as_numpy(batches.train_batches([0])), "image")
    order = np.argsort(shuffled.reshape(24, -1)[:, 0])
    np.testing.assert_array_equal(shuffled[order], vectors)


def test_deleting_an_iterator_never_waits_for_autotuning(make):
    batches = make()
    rows = read_rows(batches.dataset.files("train"), ())
    for part in (batches.train_batches([0]), batches.eval_batches(), rows.batch(2)):
        assert part.options().autotune.enabled is False
