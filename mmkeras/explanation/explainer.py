"""Why the model answers a row as it does: which modality, and where in it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from mmkeras.config.config import vector_columns
from mmkeras.data.example_reader import ReadRow
from mmkeras.evaluation.shapley import shapley_values, subsets
from mmkeras.explanation import occlusion
from mmkeras.export.inference import TrainedModel
from mmkeras.export.two_stage_inference import Arrays, TwoStagePredictor
from mmkeras.modalities.decoders import MediaDecoders
from mmkeras.modalities.preprocessing_state import MULTILABEL
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
)

_BATCH = 64  # hidden parts that are in memory at once


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Of one row; an effect is by how much the probability falls without the part.

    Attributes:
        predicted: The answer, as of `mmkeras.predict`.
        explained: The likeliest class, whose probability is explained.
        probability: Of that class, given the whole row.
        none: Of that class, given nothing.
        shares: Exact Shapley share of each modality; they add up to `probability` less
            `none`. Of one that is not there it is 0.
        status: "ok", or what is absent or unreadable.
        problems: Why something cannot be read.
        image: (rows, columns) effects of a picture's regions; None without one.
        text: (start, end, effect) of each word; None without text.
        audio: (bands, steps) effects of a sound's parts, from low to high; None
            without one.
        band_edges_hz: Of the bands.
        seconds: Length of the sound that the model hears.
    """

    predicted: str
    explained: str
    probability: float
    none: float
    shares: dict[str, float]
    status: str
    problems: tuple[str, ...] = ()
    image: np.ndarray | None = None
    text: list[tuple[int, int, float]] | None = None
    audio: np.ndarray | None = None
    band_edges_hz: tuple[float, ...] = field(default=())
    seconds: float = 0.0


class Explainer:
    """Explains rows by one trained model."""

    def __init__(self, trained_model: TrainedModel):
        self.trained_model, self.staged = (
            trained_model,
            TwoStagePredictor(trained_model),
        )
        self.decoders = MediaDecoders(trained_model.config)

    def explain(self, read: ReadRow) -> Explanation:
        """Explains one row, by what its absence or its parts' absence changes."""
        names = self.staged.modalities
        data = {m: read.data.get(m, b"") for m in names}
        inputs = self.staged.encode({m: [content] for m, content in data.items()})
        there = [
            m for m, is_there in zip(names, inputs[PRESENT][0], strict=True) if is_there
        ]
        values = {}
        for subset in subsets(there):
            away = [m for m in names if m not in subset]
            values[subset] = self.staged.classify(inputs, away)[0].astype("float64")
        whole = values[tuple(there)]
        column = int(whole.argmax())
        shares = shapley_values({s: float(v[column]) for s, v in values.items()}, there)
        gone = {
            m: UNREADABLE if data[m] or m in read.broken else ABSENT
            for m in names
            if m not in there
        }
        problems = [*read.broken.values(), read.row.problem]
        return Explanation(
            predicted=_label(whole, self.trained_model.state),
            explained=self.trained_model.state.classes[column],
            probability=float(whole[column]),
            none=float(values[()][column]),
            shares={m: shares.get(m, 0.0) for m in names},
            status=STATUS_SEPARATOR.join(f"{m} {s}" for m, s in gone.items()) or OK,
            problems=tuple(filter(None, problems)),
            **self._where(data, there, inputs, column, float(whole[column])),
        )

    def _where(self, data, there, inputs, column, whole) -> dict:
        """What each part of a modality that is there does; of vectors nothing."""
        parts = {TEXT: self._words, IMAGE: self._regions, AUDIO: self._sounds}
        found = {}
        for m in set(there) - vector_columns(self.trained_model.config):

            def effects(contents: Iterable[bytes], m=m) -> np.ndarray:
                return whole - self._probabilities(inputs, m, contents)[:, column]

            found |= parts[m](data[m], effects)
        return found

    def _probabilities(
        self, inputs: Arrays, modality: str, contents: Iterable[bytes]
    ) -> np.ndarray:
        """(V, C) of a row with V other contents of one modality."""
        contents, parts = iter(contents), []
        place = self.staged.modalities.index(modality)
        while batch := list(islice(contents, _BATCH)):
            values, there = self.staged.encode_one(modality, batch)
            rows = {k: np.repeat(x, len(batch), axis=0) for k, x in inputs.items()}
            rows[PRESENT][:, place] = there
            parts.append(self.staged.classify({**rows, modality: values}))
        return np.concatenate(parts).astype("float64")

    def _regions(self, data, effects) -> dict:
        masks = occlusion.image_windows()
        hidden = occlusion.hidden_regions(self.decoders.pixels(data), masks)
        return {IMAGE: occlusion.average_over_windows(effects(hidden), masks)}

    def _words(self, data, effects) -> dict:
        text = data.decode()
        spans = occlusion.words(text)
        if not spans:  # of signs that are no words
            return {TEXT: []}
        found = effects(occlusion.without_word(text, spans)).tolist()
        return {TEXT: [(*span, e) for span, e in zip(spans, found, strict=True)]}

    def _sounds(self, data, effects) -> dict:
        wave, rate_hz = (
            self.decoders.wave(data),
            self.trained_model.config.audio.rate_hz,
        )
        found = occlusion.spectrum(wave, rate_hz)
        if found is None:
            return {}
        masks = occlusion.windows(found.grid)
        return {
            AUDIO: occlusion.average_over_windows(
                effects(occlusion.hidden_sounds(found, masks)), masks
            ),
            "band_edges_hz": found.edges_hz,
            "seconds": len(wave) / rate_hz,
        }


def _label(probabilities, state) -> str:
    if state.task != MULTILABEL:
        return state.classes[int(probabilities.argmax())]
    pairs = zip(state.classes, probabilities, strict=True)
    return LABEL_SEPARATOR.join(name for name, p in pairs if p >= 0.5)
