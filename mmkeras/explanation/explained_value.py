"""Number of a prediction that an explanation is about, and how to measure it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mmkeras.data.predictions_csv import format_value
from mmkeras.evaluation.generated_words import (
    Word,
    find_words,
    generate_tokens,
    join_tokens,
)
from mmkeras.export.inference import TrainedModel
from mmkeras.export.two_stage_inference import Arrays, TwoStagePredictor
from mmkeras.modalities.preprocessing_state import (
    GENERATE,
    MULTILABEL,
    PADDING,
    REGRESSION,
)
from mmkeras.schema import LABEL_SEPARATOR, VALUE

# N rows, and branches to hide in all of them -> (N, 1 + W): the number that is
# explained; and of a text, the log probability of each of its W words.
Measure = Callable[..., np.ndarray]


@dataclass(frozen=True, kw_only=True)
class ExplainedValue:
    """Number of one row's prediction that is explained.

    Attributes:
        predicted: Label, value or text as from `mmkeras.predict`.
        name: Likeliest class, whose probability is explained; "value" in regression;
            the text of a generator, of which it is the probability per token, the
            geometric mean over its tokens and the end token.
        measure: Function from N rows of `TwoStagePredictor.encode`, and from the
            branches to hide, to (N, 1 + W) float64.
        words: Words of a text; () in other tasks.
    """

    predicted: str
    name: str
    measure: Measure
    words: tuple[str, ...] = ()


def find_explained_value(
    trained_model: TrainedModel, predictor: TwoStagePredictor, inputs: Arrays
) -> ExplainedValue:
    """Predicts one row, as `TwoStagePredictor.encode` returns it."""
    state = trained_model.state
    if state.task == GENERATE:
        return _find_text(trained_model, predictor, inputs)
    (probabilities,) = predictor.predict(inputs)
    # The only column of a regression is the value.
    column, is_number = int(probabilities.argmax()), state.task == REGRESSION

    def measure(rows, without=()):
        values = predictor.predict(rows, without)[:, column : column + 1]
        return values.astype("float64")

    return ExplainedValue(
        predicted=_label(probabilities, state),
        name=VALUE if is_number else state.classes[column],
        measure=measure,
    )


def _find_text(trained_model, predictor, inputs) -> ExplainedValue:
    tokens = generate_tokens(trained_model, inputs)  # (1, L)
    (text,) = join_tokens(trained_model, tokens)
    words = find_words(trained_model, tokens[0])
    count = int((tokens != PADDING).sum())

    def measure(rows, without=()):
        (n, *_) = next(iter(rows.values())).shape
        forced = np.repeat(tokens, n, axis=0)
        scores = predictor.score_tokens(rows, forced, without).astype("float64")
        return measure_words(scores, words, count)

    names = tuple(word.text for word in words)
    return ExplainedValue(predicted=text, name=text, measure=measure, words=names)


def measure_words(scores: np.ndarray, words: list[Word], tokens: int) -> np.ndarray:
    """Returns the probability per token, and the log probability of each word.

    `scores` are the log probabilities (N, L) of the tokens of a text, of which the
    first `tokens` are no padding.
    """
    mean = scores[:, :tokens].sum(axis=1) / tokens
    each = [scores[:, word.start : word.end].sum(axis=1) for word in words]
    return np.stack([np.exp(mean), *each], axis=1)


def _label(probabilities, state) -> str:
    if state.task == REGRESSION:
        return format_value(probabilities[0])
    if state.task != MULTILABEL:
        return state.classes[int(probabilities.argmax())]
    pairs = zip(state.classes, probabilities, strict=True)
    return LABEL_SEPARATOR.join(name for name, p in pairs if p >= 0.5)
