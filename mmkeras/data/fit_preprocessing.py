"""Preprocessing state fitted on the training rows: classes, vocabulary, scales."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace

from mmkeras.config import Config
from mmkeras.data.dataset import Dataset
from mmkeras.data.ingest_plan import FORMAT
from mmkeras.data.input_pipeline import AUTOTUNE, no_autograph, read_rows
from mmkeras.files import atomic_path
from mmkeras.modalities import preprocessing_state
from mmkeras.modalities.preprocessing_state import (
    REGRESSION,
    Moments,
    PreprocessingState,
)
from mmkeras.modalities.preprocessor import (
    Preprocessor,
    is_scaled,
    with_vocabulary,
    with_widths,
)
from mmkeras.modalities.text.features import tokenize
from mmkeras.modalities.text.wordpiece import read_pieces
from mmkeras.schema import AUDIO, LABEL_SEPARATOR, TEXT, TRAIN

_BATCH_ROWS = 256


def fit_preprocessing(dataset: Dataset, config: Config) -> PreprocessingState:
    """Fits classes, vocabulary and scales, or reads them from the cache.

    The cache is a file in the folder of the shards, named by a hash of the settings.

    Example:
        dataset = ingest(Path("data.csv"), config)
        state = fit_preprocessing(dataset, with_detected_encoders(config, dataset))
    """
    text, audio = config.text, config.audio
    pieces = read_pieces(text.vocab_file) if text.vocab_file else ()
    settings = [FORMAT, asdict(text), pieces, asdict(audio), dataset.fingerprint]
    settings.append(config.task)
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
    path = dataset.folder / f"analysis-{key}.json"
    if not path.exists():
        with atomic_path(path) as tmp_path:
            preprocessing_state.save(_fit(dataset, config), tmp_path)
    return preprocessing_state.load(path)


def _fit(dataset, config) -> PreprocessingState:
    task, classes, rows = _find_classes(dataset, config)
    state = PreprocessingState(
        modalities=dataset.modalities,
        task=task,
        classes=classes,
        class_rows=tuple(rows[name] for name in classes),
        rows=dataset.rows[TRAIN],
        widths=dict(dataset.widths),
        label_scale=(
            preprocessing_state.fit_label_scale(dataset.labels[TRAIN])
            if task == REGRESSION
            else None
        ),
    )
    files = dataset.files(TRAIN)
    if TEXT in state.modalities and config.text.has_vocabulary:
        counts, total = preprocessing_state.count_rows(_token_rows(files, config))
        state = with_vocabulary(state, counts, total, config.text)
    state = with_widths(state, config)
    scaled = [m for m in state.modalities if is_scaled(m, config)]
    scales = {m: _scale(files, m, config, state) for m in scaled}
    return replace(state, scales=scales)


def _find_classes(dataset, config) -> tuple[str, tuple[str, ...], Counter]:
    """Returns task, classes, and the training rows per class."""
    if config.task == REGRESSION:
        return REGRESSION, (), Counter()
    label_sets = (label for split in dataset.labels.values() for label in split)
    labels = [list(filter(None, s.split(LABEL_SEPARATOR))) for s in label_sets]
    columns = config.table.label_names
    task, classes = preprocessing_state.find_classes(labels, config.task, columns)
    return task, classes, dataset.class_rows(TRAIN)


def _token_rows(files, config) -> Iterator[list[bytes]]:
    rows = read_rows(files, [TEXT]).filter(no_autograph(lambda r: r[TEXT] != ""))
    split = no_autograph(lambda r: tokenize(r[TEXT], config.text))
    tokens = rows.batch(_BATCH_ROWS).map(split)
    for batch in tokens.prefetch(1):
        yield from batch.to_list()


def _scale(files, modality, config, state) -> preprocessing_state.Scale:
    preprocessor = Preprocessor(config, replace(state, modalities=(modality,)))
    has_modality = no_autograph(lambda r: r[modality] != "")
    rows = read_rows(files, [modality]).filter(has_modality)

    @no_autograph
    def vector(row):
        decoded = preprocessor.decode(modality, row[modality])
        return preprocessor.finish(modality, decoded)

    vectors = rows.map(vector, AUTOTUNE)
    if modality == AUDIO and config.audio.is_sequence:
        vectors = vectors.unbatch()  # frames
    moments = Moments()
    for batch in vectors.batch(_BATCH_ROWS).prefetch(1):
        moments.add(batch.numpy())
    return moments.scale(state.widths[modality])
