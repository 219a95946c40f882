"""tf.data input pipeline: TFRecords to batches for training and evaluation."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from mmkeras.config import Config
from mmkeras.config.schedule import batch_rows, steps_per_pass
from mmkeras.data.dataset import Dataset
from mmkeras.data.row_targets import RowTargets
from mmkeras.data.stored_rows import (
    AUTOTUNE,
    COLUMNS,
    dataset_options,
    is_present,
    no_autograph,
    read_rows,
)
from mmkeras.modalities.preprocessor import Preprocessor
from mmkeras.schema import LABEL, PRESENT

TARGET, _FEATURES, _WEIGHT = "target", "features", "weight"
# Memory of the shuffle buffer; training shards are in a random order already.
_SHUFFLE_BYTES = 256_000_000
_READ_ROWS = 256


class Features(NamedTuple):
    """Files of a frozen encoder's outputs, in the order of the shards.

    `shape` is that of the output for a row: a vector, or tokens.
    """

    paths: tuple[Path, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Batches of one split: (inputs, target, weight), as `fit` takes them.

    Attributes:
        features: Branch -> outputs of its frozen encoder, which replace its columns.
        class_weights: Weight of each class in the loss; () is 1 for all.
        devices: Number of devices that share a batch of training.

    Example:
        batches = Batches(dataset=dataset, preprocessor=preprocessor, split="val")
        model.evaluate(batches.eval_batches())
    """

    dataset: Dataset
    preprocessor: Preprocessor
    split: str
    features: Mapping[str, Features] = field(default_factory=dict)
    class_weights: tuple[float, ...] = ()
    devices: int = 1

    @property
    def config(self) -> Config:
        return self.preprocessor.config

    @property
    def targets(self) -> RowTargets:
        return RowTargets(self.preprocessor, self.class_weights)

    @property
    def feature_keys(self) -> set[str]:
        """Keys of the branches whose features are cached."""
        return {self.preprocessor.branches[name].key for name in self.features}

    @property
    def rows(self) -> int:
        return self.dataset.rows[self.split]

    @property
    def steps(self) -> int:
        """Batches in one epoch of training, at least one."""
        train = self.config.train
        return train.passes * steps_per_pass(self.rows, train.batch_size)

    def eval_batches(self, again: bool = False) -> tf.data.Dataset:
        """Returns one pass in the order of the shards, without augmentation.

        With `again`, to be iterated several times, the rows are read now and kept in
        memory, if they fit.
        """
        finish_row = no_autograph(lambda r: self._finish_row(r, None))
        finish_batch = no_autograph(lambda b: self._finish_batch(b, None))
        rows = self._decode_rows(self._rows()).map(finish_row, AUTOTUNE)
        size = self.config.train.read_rows
        batches = rows.batch(size)
        batches = batches.map(finish_batch, AUTOTUNE)
        if again and self.rows and self._fits(_row_bytes_of(batches.element_spec)):
            # Not cache(): each iterator over the decoders' graph costs half a second.
            all_rows = tf.nest.map_structure(lambda *x: tf.concat(x, 0), *batches)
            batches = tf.data.Dataset.from_tensor_slices(all_rows)
            batches = batches.batch(size)
        return self._finalize(batches, -(-self.rows // size))

    def train_batches(self, epochs: Sequence[int]) -> tf.data.Dataset:
        """Returns consecutive epochs, each pass shuffled and augmented differently.

        All batches have the same size, that of `batch_rows`. The last one of a pass is
        filled up with the first rows of the shards, whose weight is 0: a smaller
        batch would distort the statistics of batch normalization, and could not be
        shared by several devices.

        A pass depends only on the seed and its number, so that a resumed run gets the
        batches of an uninterrupted one.
        """
        passes = self.config.train.passes
        size = batch_rows(self.rows, self.config.train.batch_size, self.devices)
        slots = self.steps // passes * size
        rows = self._equal_rows()
        shuffled = (
            self._finished(size, slots)
            if rows is None
            else self._gathered(rows, size, slots)
        )

        @no_autograph
        def one_pass(number):
            seed = number + 1_000_003 * self.config.seed
            finish_batch = no_autograph(
                lambda i, b: self._finish_batch(b, tf.stack([seed, -1 - i]))
            )
            return shuffled(seed).enumerate().map(finish_batch, AUTOTUNE)

        numbers = tf.data.Dataset.range(passes * epochs[0], passes * (epochs[-1] + 1))
        return self._finalize(numbers.flat_map(one_pass), self.steps * len(epochs))

    def _equal_rows(self) -> tf.data.Dataset | None:
        """Returns finished rows, if all passes have the same and they fit in memory."""
        augment = self.config.augment
        augments = any(graph.augments_rows(augment) for _, graph in self._graphs())
        if augments or self.config.train.oversample:
            return None
        finish_row = no_autograph(lambda r: self._finish_row(r, None))
        rows = self._decode_rows(self._rows()).map(finish_row, AUTOTUNE)
        size = _row_bytes_of(rows.batch(_READ_ROWS).element_spec)
        return rows if self._fits(max(size, self._row_bytes())) else None

    def _gathered(self, rows, size, slots) -> Callable[[tf.Tensor], tf.data.Dataset]:
        """Returns a function from a seed to batches of rows that are in memory."""
        parts = list(rows.batch(_READ_ROWS))
        all_rows = tf.nest.map_structure(lambda *x: tf.concat(x, 0), *parts)

        @no_autograph
        def gather(places, indices):
            batch = tf.nest.map_structure(lambda x: tf.gather(x, indices), all_rows)
            return {**batch, _WEIGHT: self._row_weight(places, slots)}

        def shuffled(seed):
            indices = tf.data.Dataset.range(self.rows)
            indices = indices.shuffle(self._buffer_rows(), seed, False)
            first = tf.data.Dataset.range(self.rows).repeat().take(slots - self.rows)
            indices = indices.concatenate(first).enumerate()
            return indices.batch(size, drop_remainder=True).map(gather, AUTOTUNE)

        return shuffled

    def _finished(self, size, slots) -> Callable[[tf.Tensor], tf.data.Dataset]:
        """Returns a function from a seed to batches of rows, finished in each pass."""
        in_memory = self._fits(self._row_bytes())
        # Decoded rows are shuffled if kept in memory, else the smaller encoded ones.
        source = self._rows()
        if in_memory:
            source = self._decode_rows(source).cache()

        def shuffled(seed):
            rows = self._oversampled(source, seed)
            rows = rows.shuffle(self._buffer_rows(), seed, False)
            # More than all rows if devices are many; shuffling would read all again.
            rows = rows.concatenate(source.repeat().take(slots - self.rows))
            rows = rows if in_memory else self._decode_rows(rows)
            finish_row = no_autograph(
                lambda i, r: {
                    **self._finish_row(r, tf.stack([seed, i])),
                    _WEIGHT: self._row_weight(i, slots),
                }
            )
            rows = rows.enumerate().map(finish_row, AUTOTUNE)
            return rows.batch(size, drop_remainder=True)

        return shuffled

    def _row_weight(self, i, slots):
        """Returns 0 from row `self.rows` on; the mean over all `slots` is 1."""
        return tf.where(i < self.rows, slots / max(self.rows, 1), 0.0)

    def _oversampled(self, rows, seed) -> tf.data.Dataset:
        """Resamples the rows of a pass so that classes are about equally frequent."""
        if not self.config.train.oversample:
            return rows
        counts = np.maximum(self.preprocessor.state.class_rows, 1)
        share = tf.constant(counts.sum() / (len(counts) * counts), tf.float32)  # (C,)

        @no_autograph
        def repeat(i, row):
            target = row.get(TARGET)
            target = self.targets.decode(row[LABEL]) if target is None else target
            times = tf.reduce_sum(target * share) / tf.reduce_sum(target)
            uniform = tf.random.stateless_uniform([], tf.stack([seed, i]))
            times = tf.cast(tf.floor(times + uniform), tf.int64)
            return tf.data.Dataset.from_tensors(row).repeat(times)

        # One pass gives about `self.rows` rows; the next pass fills up the rest.
        return rows.repeat().enumerate().flat_map(repeat).take(self.rows)

    def _finalize(self, batches, steps):
        batches = batches.apply(tf.data.experimental.assert_cardinality(steps))
        return batches.prefetch(AUTOTUNE).with_options(dataset_options())

    def _rows(self) -> tf.data.Dataset:
        """Reads encoded rows in the order of the shards, with features if any."""
        files, preprocessor = self.dataset.files(self.split), self.preprocessor
        columns = (c for b in preprocessor.branches.values() for c in b.columns)
        rows = read_rows(files, columns)
        if self.features:
            features = {
                name: tf.data.FixedLengthRecordDataset(
                    list(map(str, paths)), 4 * math.prod(shape)
                )
                for name, (paths, shape) in self.features.items()
            }
            rows = tf.data.Dataset.zip((rows, features))
            rows = rows.map(no_autograph(lambda r, f: {**r, _FEATURES: f}))
        mask = self.dataset.masks.get(self.split)
        if mask is None:
            return rows
        pairs = tf.data.Dataset.zip((rows, tf.data.Dataset.from_tensor_slices(mask)))
        pairs = pairs.filter(no_autograph(lambda row, is_chosen: is_chosen))
        return pairs.map(no_autograph(lambda row, is_chosen: row))

    def _decode_rows(self, rows) -> tf.data.Dataset:
        return rows.map(no_autograph(self._decode_row), AUTOTUNE)

    def _row_bytes(self) -> int:
        """Estimates the size of a decoded row."""
        files = self.dataset.files(self.split)
        size = sum(tf.io.gfile.stat(file).length for file in files)
        size //= max(self.dataset.stored_rows(self.split), 1)
        graphs = self.preprocessor.graphs.items()
        decoded = [g.decoded_bytes(size) for n, g in graphs if n not in self.features]
        features = [4 * math.prod(shape) for _, shape in self.features.values()]
        return size + sum(decoded) + sum(features)

    def _fits(self, row_bytes: int) -> bool:
        return row_bytes * self.rows <= self.config.train.cache_mb * 1_000_000

    def _buffer_rows(self) -> int:
        if self._fits(self._row_bytes()):
            return max(self.rows, 1)
        return max(1, min(self.rows, _SHUFFLE_BYTES // self._row_bytes()))

    def _decode_row(self, row):
        out, present = {}, []
        for name, branch in self.preprocessor.branches.items():
            values = {c.name: row[COLUMNS][c.name] for c in branch.columns}
            exists = tf.reduce_any([is_present(x) for x in values.values()])
            present.append(tf.cast(exists, tf.float32))
            out[branch.key] = self._decode(name, values, row)
        out[PRESENT] = tf.stack(present)  # (M,)
        out[TARGET] = self.targets.decode(row[LABEL])
        return out

    def _decode(self, name, values, row):
        if name in self.features:
            vector = tf.io.decode_raw(row[_FEATURES][name], tf.float32)
            return tf.reshape(vector, self.features[name].shape)
        return self.preprocessor.graphs[name].decode(values, self.dataset.formats)

    def _graphs(self):
        """Yields key and graph of each branch without features."""
        for name, graph in self.preprocessor.graphs.items():
            if name not in self.features:
                yield self.preprocessor.branches[name].key, graph

    def _finish_row(self, row, seed):
        row = dict(row)
        for key, graph in self._graphs():
            row[key] = graph.finish_row(row[key], seed, self.config.augment)
        return row

    def _finish_batch(self, batch, seed):
        batch = dict(batch)
        target = batch.pop(TARGET)
        weight = batch.pop(_WEIGHT, tf.ones(tf.shape(target)[:1]))
        more, target, weight = self.targets.finish(target, weight, seed)
        for key, graph in self._graphs():
            batch[key] = graph.finish_batch(batch[key], seed, self.config.augment)
        return {**batch, **more}, target, weight


def _row_bytes_of(batch_spec) -> int:
    specs = tf.nest.flatten(batch_spec)
    return sum(math.prod(spec.shape[1:]) * spec.dtype.size for spec in specs)


def branch_batches(
    dataset: Dataset, preprocessor: Preprocessor, branch: str, split: str
) -> tf.data.Dataset:
    """Returns (B, ...) inputs of one branch in the order of the shards."""
    state = preprocessor.state
    branches = {branch: state.branches[branch]}
    alone = Preprocessor(preprocessor.config, replace(state, branches=branches))
    batches = Batches(dataset=dataset, preprocessor=alone, split=split)
    key = alone.branches[branch].key
    return batches.eval_batches().map(no_autograph(lambda inputs, *_: inputs[key]))
