"""Wrong predictions with the highest scores, and the content of their rows."""

import numpy as np

from mmkeras.data.dataset import Dataset
from mmkeras.data.input_pipeline import read_rows
from mmkeras.evaluation.predictions import Predictions
from mmkeras.export.inference import TrainedModel
from mmkeras.modalities.audio.excerpt import wave_excerpt
from mmkeras.modalities.decoders import MediaDecoders
from mmkeras.modalities.image.encoding import make_thumbnail
from mmkeras.modalities.preprocessing_state import REGRESSION
from mmkeras.reports.report import WorstError
from mmkeras.schema import AUDIO, IMAGE, LABEL_SEPARATOR, TEXT


def top_errors(
    trained_model: TrainedModel, dataset: Dataset, split: str, predictions: Predictions
) -> list[WorstError]:
    """Returns the wrong predictions of the highest scores, with their media.

    In regression these are the largest residuals.
    """
    if trained_model.state.task == REGRESSION:
        residuals = np.abs(predictions.probabilities - predictions.targets)[:, 0]
        indices = np.argsort(-residuals, kind="stable").tolist()
    else:
        indices = _most_confident_errors(predictions)
    indices = indices[: trained_model.config.evaluate.worst_errors]
    rows = read_rows(dataset.files(split), trained_model.state.modalities)
    shown = set(indices)
    contents = {i: r for i, r in enumerate(rows.as_numpy_iterator()) if i in shown}
    decoders = MediaDecoders(trained_model.config)
    return [
        _worst_error(predictions, i, contents[i], trained_model.config, decoders)
        for i in indices
    ]


def _most_confident_errors(predictions) -> list[int]:
    wrong = [
        set(a.split(LABEL_SEPARATOR)) != set(b.split(LABEL_SEPARATOR))
        for a, b in zip(predictions.labels, predictions.predicted, strict=True)
    ]
    order = np.argsort(-predictions.scores, kind="stable")
    return [int(i) for i in order if wrong[i]]


def _worst_error(predictions, i, row, config, decoders) -> WorstError:
    text, image, audio = (row.get(m, b"") for m in (TEXT, IMAGE, AUDIO))
    if config.text.encoder == "vector" and text:
        text = b"(a vector)"
    if config.audio.encoder == "vector":
        audio = b""
    return WorstError(
        id=predictions.ids[i],
        label=predictions.labels[i],
        predicted=predictions.predicted[i],
        score=float(predictions.scores[i]),
        status=predictions.status[i],
        text=text.decode("utf-8", "replace"),
        image=make_thumbnail(image, decoders) if image else b"",
        audio=wave_excerpt(audio, config, decoders) if audio else b"",
    )
