"""What the training rows teach: classes, vocabulary, scales."""

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import asdict, replace

import tensorflow as tf

from mmkeras.config import Config
from mmkeras.data.dataset import Dataset
from mmkeras.data.ingest_plan import FORMAT
from mmkeras.data.input_pipeline import AUTOTUNE, read_rows
from mmkeras.modalities import preprocessing_state
from mmkeras.modalities.preprocessing_state import Moments, PreprocessingState
from mmkeras.modalities.preprocessor import (
    Preprocessor,
    is_scaled,
    with_vocabulary,
    with_widths,
)
from mmkeras.modalities.text.features import tokenize
from mmkeras.modalities.text.wordpiece import read_pieces
from mmkeras.schema import AUDIO, TEXT, TRAIN

_BATCH_ROWS = 256
# Our functions are graph code already; converting them would take seconds.
_as_is = tf.autograph.experimental.do_not_convert


def fit_preprocessing(dataset: Dataset, config: Config) -> PreprocessingState:
    """Finds classes, vocabulary and scales on the training rows.

    Kept beside the shards, so that the same rows and settings are analysed once.
    """
    text, audio = config.text, config.audio
    pieces = read_pieces(text.vocab_file) if text.vocab_file else ()
    settings = json.dumps(
        [FORMAT, asdict(text), pieces, asdict(audio), dataset.fingerprint]
    )
    key = hashlib.sha256(settings.encode()).hexdigest()[:16]
    path = dataset.folder / f"analysis-{key}.json"
    if not path.exists():
        aside = path.with_suffix(f".{uuid.uuid4().hex}")
        preprocessing_state.save(_analyze(dataset, config), aside)
        os.replace(aside, path)
    return preprocessing_state.load(path)


def _analyze(dataset, config) -> PreprocessingState:
    labels = [row.split("|") for split in dataset.labels.values() for row in split]
    task, classes = preprocessing_state.find_classes(labels)
    rows = dataset.class_rows(TRAIN)
    found = PreprocessingState(
        modalities=dataset.modalities,
        task=task,
        classes=classes,
        class_rows=tuple(rows[name] for name in classes),
        rows=dataset.rows[TRAIN],
        widths=dict(dataset.widths),
    )
    files = dataset.files(TRAIN)
    if TEXT in found.modalities and config.text.has_vocabulary:
        counts, total = preprocessing_state.count_rows(_token_rows(files, config))
        found = with_vocabulary(found, counts, total, config.text)
    found = with_widths(found, config)
    scaled = [m for m in found.modalities if is_scaled(m, config)]
    scales = {m: _scale(files, m, config, found) for m in scaled}
    return replace(found, scales=scales)


def _token_rows(files, config) -> Iterator[list[bytes]]:
    rows = read_rows(files, [TEXT]).filter(_as_is(lambda r: r[TEXT] != ""))
    split = _as_is(lambda r: tokenize(r[TEXT], config.text))
    tokens = rows.batch(_BATCH_ROWS).map(split)
    for batch in tokens.prefetch(1):
        yield from batch.to_list()


def _scale(files, modality, config, found) -> preprocessing_state.Scale:
    preprocessor = Preprocessor(config, replace(found, modalities=(modality,)))
    rows = read_rows(files, [modality]).filter(_as_is(lambda r: r[modality] != ""))

    @_as_is
    def vector(row):
        return preprocessor.finish(
            modality, preprocessor.decode(modality, row[modality])
        )

    vectors = rows.map(vector, AUTOTUNE)
    if modality == AUDIO and config.audio.is_sequence:
        vectors = vectors.unbatch()  # frames
    moments = Moments()
    for batch in vectors.batch(_BATCH_ROWS).prefetch(1):
        moments.add(batch.numpy())
    return moments.scale(found.widths[modality])
