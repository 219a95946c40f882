"""Explanations of predictions by Shapley values of modalities and by occlusion."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np

from mmkeras.config.config import vector_columns
from mmkeras.data.example_reader import RowContent
from mmkeras.data.predictions_csv import format_value
from mmkeras.evaluation.robustness import replace_modality
from mmkeras.evaluation.shapley import shapley_values, subsets
from mmkeras.explanation import occlusion
from mmkeras.export.inference import TrainedModel
from mmkeras.export.two_stage_inference import Arrays, TwoStagePredictor
from mmkeras.modalities.decoders import MediaDecoders
from mmkeras.modalities.preprocessing_state import MULTILABEL, REGRESSION
from mmkeras.schema import (
    ABSENT,
    AUDIO,
    IMAGE,
    LABEL_SEPARATOR,
    OK,
    PRESENT,
    STATUS_SEPARATOR,
    TEXT,
    UNREADABLE,
    VALUE,
)

_BATCH_ROWS = 64

# Contents of one modality with a part hidden -> (V,) effects.
Effects = Callable[[Iterable[bytes]], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Explanation of one row's prediction.

    An effect is by how much the probability falls when a part is hidden. In regression
    all probabilities are values in the unit of the labels.

    Attributes:
        predicted: Label as from `mmkeras.predict`.
        explained: Likeliest class, whose probability is explained; "value" in
            regression, where `is_number` is true.
        empty_probability: Probability of that class for a row without any modality.
        shares: Modality -> exact Shapley value, 0 if it is absent; they add up to
            `probability` minus `empty_probability`.
        status: "ok", or what is absent or unreadable; `problems` has the reasons.
        image: (rows, columns) effects of regions; None without an image.
        text: (start, end, effect) of each word; None without text.
        audio: (bands, steps) effects, low frequencies first; None without audio.
        seconds: Length of the audio that the model gets.
    """

    predicted: str
    explained: str
    probability: float
    empty_probability: float
    shares: dict[str, float]
    status: str
    is_number: bool = False
    problems: tuple[str, ...] = ()
    image: np.ndarray | None = None
    text: list[tuple[int, int, float]] | None = None
    audio: np.ndarray | None = None
    band_edges_hz: tuple[float, ...] = ()
    seconds: float = 0.0


class Explainer:
    """Explainer of a trained model's predictions.

    Example:
        explainer = Explainer(load_trained(Path("runs/demo")))
        explanation = explainer.explain(reader.read(row))
        print(explanation.predicted, explanation.shares)
    """

    def __init__(self, trained_model: TrainedModel):
        self.trained_model = trained_model
        self.predictor = TwoStagePredictor(trained_model)
        self.decoders = MediaDecoders(trained_model.config)

    def explain(self, read: RowContent) -> Explanation:
        """Explains one row by hiding its modalities and their parts."""
        names, state = self.predictor.modalities, self.trained_model.state
        data = {m: read.data.get(m, b"") for m in names}
        inputs = self.predictor.encode({m: [content] for m, content in data.items()})
        is_present = dict(zip(names, inputs[PRESENT][0], strict=True))
        present = tuple(m for m in names if is_present[m])
        values = {}
        for subset in subsets(present):
            hidden = [m for m in names if m not in subset]
            (probabilities,) = self.predictor.classify(inputs, hidden)
            values[subset] = probabilities.astype("float64")
        probabilities = values[present]
        # The only column of a regression is the value.
        column, is_number = int(probabilities.argmax()), state.task == REGRESSION
        values = {subset: float(p[column]) for subset, p in values.items()}
        shares = shapley_values(values, present)
        status = [
            f"{m} {UNREADABLE if data[m] or m in read.broken else ABSENT}"
            for m in names
            if m not in present
        ]
        problems = [*read.broken.values(), read.row.problem]
        return Explanation(
            predicted=_label(probabilities, state),
            explained=VALUE if is_number else state.classes[column],
            is_number=is_number,
            probability=values[present],
            empty_probability=values[()],
            shares={m: shares.get(m, 0.0) for m in names},
            status=STATUS_SEPARATOR.join(status) or OK,
            problems=tuple(filter(None, problems)),
            **self._parts(data, present, inputs, column, values[present]),
        )

    def _parts(self, data, present, inputs, column, probability) -> dict:
        """Returns the effects of the parts of all modalities but vectors."""
        explain = {TEXT: self._words, IMAGE: self._regions, AUDIO: self._bands}
        result = {}
        for m in set(present) - vector_columns(self.trained_model.config):

            def effects(contents: Iterable[bytes], m=m) -> np.ndarray:
                return probability - self._probabilities(inputs, m, contents)[:, column]

            result |= explain[m](data[m], effects)
        return result

    def _probabilities(
        self, inputs: Arrays, modality: str, contents: Iterable[bytes]
    ) -> np.ndarray:
        """Returns (V, C) for a row with V other contents of one modality."""
        contents, parts = iter(contents), []
        while batch := list(islice(contents, _BATCH_ROWS)):
            rows = {k: np.repeat(x, len(batch), axis=0) for k, x in inputs.items()}
            rows = replace_modality(self.predictor, rows, modality, batch)
            parts.append(self.predictor.classify(rows))
        return np.concatenate(parts).astype("float64")

    def _regions(self, data: bytes, effects: Effects) -> dict:
        masks = occlusion.windows(occlusion.IMAGE_GRID)
        contents = occlusion.hide_regions(self.decoders.pixels(data), masks)
        return {IMAGE: occlusion.average_over_windows(effects(contents), masks)}

    def _words(self, data: bytes, effects: Effects) -> dict:
        text = data.decode()
        spans = occlusion.find_words(text)
        if not spans:
            return {TEXT: []}
        values = effects(occlusion.remove_words(text, spans)).tolist()
        return {TEXT: [(*span, e) for span, e in zip(spans, values, strict=True)]}

    def _bands(self, data: bytes, effects: Effects) -> dict:
        rate_hz = self.trained_model.config.audio.rate_hz
        wave = self.decoders.wave(data)
        spectrum = occlusion.compute_spectrum(wave, rate_hz)
        if spectrum is None:
            return {}
        masks = occlusion.windows(spectrum.grid)
        values = effects(occlusion.hide_bands(spectrum, masks))
        return {
            AUDIO: occlusion.average_over_windows(values, masks),
            "band_edges_hz": spectrum.edges_hz,
            "seconds": len(wave) / rate_hz,
        }


def _label(probabilities, state) -> str:
    if state.task == REGRESSION:
        return format_value(probabilities[0])
    if state.task != MULTILABEL:
        return state.classes[int(probabilities.argmax())]
    pairs = zip(state.classes, probabilities, strict=True)
    return LABEL_SEPARATOR.join(name for name, p in pairs if p >= 0.5)
