"""The wrong answers of which the model was surest, with what the rows hold."""

from collections.abc import Iterator

import numpy as np

from mmkeras.data.dataset import Dataset
from mmkeras.data.input_pipeline import read_rows
from mmkeras.evaluation.predictions import Predictions
from mmkeras.export.inference import TrainedModel
from mmkeras.modalities.audio.excerpt import wave_excerpt
from mmkeras.modalities.decoders import MediaDecoders
from mmkeras.modalities.image.encoding import thumbnail
from mmkeras.modalities.preprocessing_state import MULTILABEL
from mmkeras.reports.report import WorstError
from mmkeras.schema import AUDIO, IMAGE, LABEL_SEPARATOR, TEXT


def top_errors(
    trained_model: TrainedModel, dataset: Dataset, split: str, found: Predictions
) -> list[WorstError]:
    """The wrong rows whose answer was surest, with what a person needs to judge."""
    if trained_model.state.task == MULTILABEL:
        wrong = [
            set(a.split(LABEL_SEPARATOR)) != set(b.split(LABEL_SEPARATOR))
            for a, b in zip(found.labels, found.predicted, strict=True)
        ]
    else:
        wrong = [a != b for a, b in zip(found.labels, found.predicted, strict=True)]
    order = np.argsort(-found.scores, kind="stable")
    chosen = [int(i) for i in order if wrong[i]]
    chosen = chosen[: trained_model.config.evaluate.worst_errors]
    contents = dict(_rows_at(dataset.files(split), trained_model, set(chosen)))
    decoders = MediaDecoders(trained_model.config)
    return [
        _worst_error(found, i, contents[i], trained_model, decoders) for i in chosen
    ]


def _rows_at(files, trained_model, places: set[int]) -> Iterator[tuple[int, dict]]:
    rows = read_rows(files, trained_model.state.modalities)
    for i, row in enumerate(rows.as_numpy_iterator()):
        if i in places:
            yield i, row


def _worst_error(found, i, row, trained_model, decoders) -> WorstError:
    config, text = trained_model.config, row.get(TEXT, b"")
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
        audio=wave_excerpt(audio, config, decoders) if audio else b"",
    )
