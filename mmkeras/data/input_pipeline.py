"""tf.data input pipeline: TFRecords to batches for training and evaluation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from mmkeras.config import Config, TrainConfig
from mmkeras.config.schedule import batch_rows, steps_per_pass
from mmkeras.data.dataset import Dataset
from mmkeras.modalities.audio.augmentation import mask_frames
from mmkeras.modalities.image.augmentation import augment_images
from mmkeras.modalities.preprocessing_state import BINARY
from mmkeras.modalities.preprocessor import Preprocessor
from mmkeras.modalities.text.augmentation import drop_tokens
from mmkeras.schema import (
    AUDIO,
    ID,
    IMAGE,
    LABEL,
    LABEL_SEPARATOR,
    PRESENT,
    STATUS,
    TEXT,
)

AUTOTUNE = tf.data.AUTOTUNE
# For functions that are graph code already; converting them would take seconds.
no_autograph = tf.autograph.experimental.do_not_convert
TARGET, _VECTOR, _WEIGHT = "target", "image_vector", "weight"
# Memory of the shuffle buffer; training shards are in a random order already.
_SHUFFLE_BYTES = 256_000_000


def read_rows(files: Sequence[str], modalities: Sequence[str]) -> tf.data.Dataset:
    """Reads tf.Examples in order: () strings by modality, id, label and status.

    Raises:
        tf.errors.DataLossError: A shard is damaged.
    """
    names = [*modalities, ID, LABEL, STATUS]
    features = {name: tf.io.FixedLenFeature([], tf.string, "") for name in names}
    parse = no_autograph(lambda r: tf.io.parse_example(r, features))
    records = tf.data.TFRecordDataset(list(files)).batch(64)
    return records.map(parse, AUTOTUNE).unbatch()


def class_weights(rows: Sequence[int], config: TrainConfig) -> tuple[float, ...]:
    """Returns the weight of each class by its training rows, 1 on average over rows.

    Without weights the result is (). Source of "effective": Cui et al., 2019, https://arxiv.org/abs/1901.05555.
    """
    if config.class_weights == "none":
        return ()
    rows = np.maximum(rows, 1)
    counts = rows
    if config.class_weights == "effective":
        counts = (1 - config.class_beta**rows) / (1 - config.class_beta)
    weights = rows.sum() / (counts * (rows / counts).sum())
    return tuple(weights.tolist())


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Batches of one split: (inputs, target, weight), as `fit` takes them.

    Attributes:
        image_vectors: File of a frozen image encoder's outputs, in the order of the
            shards; they replace the images.
        image_shape: Shape of the encoder's output per image: a vector, or tokens.
        class_weights: Weight of each class in the loss; () is 1 for all.
        devices: Number of devices that share a batch of training.

    Example:
        batches = Batches(dataset=dataset, preprocessor=preprocessor, split="val")
        model.evaluate(batches.eval_batches())
    """

    dataset: Dataset
    preprocessor: Preprocessor
    split: str
    image_vectors: Path | None = None
    image_shape: tuple[int, ...] = ()
    class_weights: tuple[float, ...] = ()
    devices: int = 1

    @property
    def config(self) -> Config:
        return self.preprocessor.config

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
        batches = rows.batch(self.config.train.batch_size)
        batches = batches.map(finish_batch, AUTOTUNE)
        if again and self.rows and self._fits(_row_bytes_of(batches.element_spec)):
            # Not cache(): each iterator over the decoders' graph costs half a second.
            all_rows = tf.nest.map_structure(lambda *x: tf.concat(x, 0), *batches)
            batches = tf.data.Dataset.from_tensor_slices(all_rows)
            batches = batches.batch(self.config.train.batch_size)
        return self._finalize(batches, -(-self.rows // self.config.train.batch_size))

    def train_batches(self, epochs: Sequence[int]) -> tf.data.Dataset:
        """Returns consecutive epochs, each pass shuffled and augmented differently.

        All batches have the same size, that of `batch_rows`. The last one of a pass is
        filled up with the first rows of the shards, whose weight is 0: a smaller
        batch would distort the statistics of batch normalization, and could not be
        shared by several devices.

        A pass depends only on the seed and its number, so that a resumed run gets the
        batches of an uninterrupted one.
        """
        in_memory = self._fits(self._row_bytes())
        passes = self.config.train.passes
        size = batch_rows(self.rows, self.config.train.batch_size, self.devices)
        slots = self.steps // passes * size
        # Decoded rows are shuffled if kept in memory, else the smaller encoded ones.
        source = self._rows()
        if in_memory:
            source = self._decode_rows(source).cache()

        @no_autograph
        def one_pass(number):
            seed = number + 1_000_003 * self.config.seed
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
            finish_batch = no_autograph(
                lambda i, b: self._finish_batch(b, tf.stack([seed, -1 - i]))
            )
            rows = rows.enumerate().map(finish_row, AUTOTUNE)
            batches = rows.batch(size, drop_remainder=True)
            return batches.enumerate().map(finish_batch, AUTOTUNE)

        numbers = tf.data.Dataset.range(passes * epochs[0], passes * (epochs[-1] + 1))
        return self._finalize(numbers.flat_map(one_pass), self.steps * len(epochs))

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
            target = row[TARGET] if TARGET in row else self._target(row[LABEL])
            times = tf.reduce_sum(target * share) / tf.reduce_sum(target)
            uniform = tf.random.stateless_uniform([], tf.stack([seed, i]))
            times = tf.cast(tf.floor(times + uniform), tf.int64)
            return tf.data.Dataset.from_tensors(row).repeat(times)

        # One pass gives about `self.rows` rows; the next pass fills up the rest.
        return rows.repeat().enumerate().flat_map(repeat).take(self.rows)

    def _finalize(self, batches, steps):
        options, policy = tf.data.Options(), tf.data.experimental.AutoShardPolicy.DATA
        options.deterministic = True
        options.experimental_distribute.auto_shard_policy = policy
        batches = batches.apply(tf.data.experimental.assert_cardinality(steps))
        return batches.prefetch(AUTOTUNE).with_options(options)

    def _rows(self) -> tf.data.Dataset:
        """Reads encoded rows in the order of the shards, with image vectors if any."""
        files = self.dataset.files(self.split)
        rows = read_rows(files, self.preprocessor.modalities)
        if self.image_vectors is None:
            return rows
        size = 4 * math.prod(self.image_shape)
        vectors = tf.data.FixedLengthRecordDataset(str(self.image_vectors), size)
        rows = tf.data.Dataset.zip((rows, vectors))
        return rows.map(no_autograph(lambda r, v: {**r, _VECTOR: v}))

    def _decode_rows(self, rows) -> tf.data.Dataset:
        return rows.map(no_autograph(self._decode_row), AUTOTUNE)

    def _row_bytes(self) -> int:
        """Estimates the size of a decoded row; mel frames for audio of 16 bits."""
        files = self.dataset.files(self.split)
        size = sum(tf.io.gfile.stat(file).length for file in files)
        size //= max(self.rows, 1)
        audio = self.config.audio
        if AUDIO in self.preprocessor.modalities and self._has_frames():
            size += size * 4 * audio.bands // (2 * max(audio.hop, 1))
        elif AUDIO in self.preprocessor.modalities and audio.encoder == "hub":
            size += 2 * size  # the wave as floats
        if IMAGE in self.preprocessor.modalities and self.image_vectors is None:
            size += 3 * self.config.image.size_px**2
        return size + 4 * math.prod(self.image_shape)

    def _fits(self, row_bytes: int) -> bool:
        return row_bytes * self.rows <= self.config.train.cache_mb * 1_000_000

    def _buffer_rows(self) -> int:
        if self._fits(self._row_bytes()):
            return max(self.rows, 1)
        return max(1, min(self.rows, _SHUFFLE_BYTES // self._row_bytes()))

    def _decode_row(self, row):
        out, present = {}, []
        for m in self.preprocessor.modalities:
            is_present = row[m] != ""
            out[m] = self._decode(m, row, is_present)
            present.append(tf.cast(is_present, tf.float32))
        out[PRESENT] = tf.stack(present)  # (M,)
        out[TARGET] = self._target(row[LABEL])
        return out

    def _target(self, label):  # () string to (C,) float32, or (1,) in regression
        if scale := self.preprocessor.state.label_scale:
            number = tf.strings.to_number(label, tf.float64)
            standardized = (number - scale.mean) / scale.deviation
            return tf.cast(standardized, tf.float32)
        names = tf.strings.split(label, LABEL_SEPARATOR)
        classes = tf.constant(self.preprocessor.state.classes)
        is_label = tf.reduce_any(names[:, None] == classes[None, :], axis=0)
        return tf.cast(is_label, tf.float32)

    def _decode(self, modality, row, is_present):
        if modality == IMAGE and self.image_vectors is not None:
            vector = tf.io.decode_raw(row[_VECTOR], tf.float32)
            return tf.reshape(vector, self.image_shape)
        if self.preprocessor.is_text(modality):
            return row[modality]
        spec = self.preprocessor.decoded_spec(modality)
        shape = [size or 1 for size in spec.shape]
        decode, kinds = self.preprocessor.decode, self.dataset.image_kinds
        decoded = tf.cond(
            is_present,
            lambda: decode(modality, row[modality], kinds),
            lambda: tf.zeros(shape, spec.dtype),
        )
        return tf.ensure_shape(decoded, spec.shape)

    def _finish_row(self, row, seed):
        """Masks and finishes the modalities that are not batched: audio and vectors."""
        row = dict(row)
        for m in self.preprocessor.modalities:
            if m == AUDIO and seed is not None and self._has_frames():
                row[m] = mask_frames(row[m], seed, self.config.augment)
            if m != IMAGE and not self.preprocessor.is_text(m):
                row[m] = self.preprocessor.finish(m, row[m])
        return row

    def _has_frames(self):
        return self.config.audio.encoder not in ("vector", "hub")

    def _finish_batch(self, batch, seed):
        batch, augment = dict(batch), self.config.augment
        target = batch.pop(TARGET)  # (B, C)
        weight = batch.pop(_WEIGHT, tf.ones(tf.shape(target)[:1]))
        if self.class_weights:
            each = target * tf.constant(self.class_weights, tf.float32)
            weight *= tf.math.divide_no_nan(
                tf.reduce_sum(each, axis=1), tf.reduce_sum(target, axis=1)
            )
        if IMAGE in batch and seed is not None and self.image_vectors is None:
            batch[IMAGE] = augment_images(batch[IMAGE], seed, augment)
        if TEXT in batch and self.preprocessor.is_text(TEXT):
            batch[TEXT] = self._text(batch[TEXT], seed)
        if self.preprocessor.state.task == BINARY:
            target = target[:, 1:]
        return batch, target, weight

    def _text(self, texts, seed):
        if not self.config.text.has_vocabulary:
            return self.preprocessor.text_input(texts)
        tokens = self.preprocessor.tokens(texts)
        if seed is not None and self.config.augment.word_dropout:
            tokens = drop_tokens(tokens, seed, self.config.augment)
        return self.preprocessor.text_input(texts, tokens)


def _row_bytes_of(batch_spec) -> int:
    specs = tf.nest.flatten(batch_spec)
    return sum(math.prod(spec.shape[1:]) * spec.dtype.size for spec in specs)


def image_batches(dataset: Dataset, preprocessor: Preprocessor, split: str):
    """Returns (B, S, S, 3) uint8 in the order of the shards; zeros where absent."""
    only_images = Preprocessor(
        preprocessor.config, replace(preprocessor.state, modalities=(IMAGE,))
    )
    batches = Batches(dataset=dataset, preprocessor=only_images, split=split)
    return batches.eval_batches().map(no_autograph(lambda inputs, *_: inputs[IMAGE]))
