"""The wrong answers of which the model was surest, with what the rows hold."""

import io
from collections.abc import Iterator

import numpy as np

from mmkeras.config import Config
from mmkeras.data import raw_rows
from mmkeras.decoders import Decoders
from mmkeras.inference import Trained
from mmkeras.ingested import Ingested
from mmkeras.media import upright, wave_bytes
from mmkeras.predictions import Predictions
from mmkeras.preprocess.analysis import MULTILABEL
from mmkeras.report import WorstError
from mmkeras.schema import AUDIO, IMAGE, LABEL_SEPARATOR, TEXT

_THUMBNAIL_PX = 192
_PLAYED_S = 5


def worst_errors(
    trained: Trained, ingested: Ingested, split: str, found: Predictions
) -> list[WorstError]:
    """The wrong rows whose answer was surest, with what a person needs to judge."""
    if trained.analysis.task == MULTILABEL:
        wrong = [
            set(a.split(LABEL_SEPARATOR)) != set(b.split(LABEL_SEPARATOR))
            for a, b in zip(found.labels, found.predicted, strict=True)
        ]
    else:
        wrong = [a != b for a, b in zip(found.labels, found.predicted, strict=True)]
    order = np.argsort(-found.scores, kind="stable")
    chosen = [int(i) for i in order if wrong[i]]
    chosen = chosen[: trained.config.evaluate.worst_errors]
    contents = dict(_rows_at(ingested.files(split), trained, set(chosen)))
    decoders = Decoders(trained.config)
    return [_worst_error(found, i, contents[i], trained, decoders) for i in chosen]


def _rows_at(files, trained, places: set[int]) -> Iterator[tuple[int, dict]]:
    rows = raw_rows(files, trained.analysis.modalities)
    for i, row in enumerate(rows.as_numpy_iterator()):
        if i in places:
            yield i, row


def _worst_error(found, i, row, trained, decoders) -> WorstError:
    config, text = trained.config, row.get(TEXT, b"")
    if config.text.encoder == "vector" and text:
        text = b"(a vector)"
    image, audio = row.get(IMAGE, b""), row.get(AUDIO, b"")
    if config.audio.encoder == "vector":
        audio = b""
    return WorstError(
        id=found.ids[i],
        label=found.labels[i],
        predicted=found.predicted[i],
        score=float(found.scores[i]),
        status=found.status[i],
        text=text.decode("utf-8", "replace"),
        image=thumbnail(image) if image else b"",
        audio=sample(audio, config, decoders) if audio else b"",
    )


def thumbnail(data: bytes) -> bytes:
    """Returns a small upright PNG of an encoded picture."""
    picture = upright(data)
    picture.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def sample(data: bytes, config: Config, decoders: Decoders) -> bytes:
    """Returns the first seconds, as the model hears them, as a small WAV."""
    wave = decoders.wave(data)[: _PLAYED_S * config.audio.rate_hz]
    samples = np.round(np.clip(wave, -1, 1) * 32767).astype(np.int16)
    return wave_bytes(samples[:, None], 16, config.audio.rate_hz)
