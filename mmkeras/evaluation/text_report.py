"""Properties of generated texts as a whole, and the rows that a report shows."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.data.dataset import Dataset
from mmkeras.evaluation.generated_words import (
    find_words,
    generate_tokens,
    measure_attention,
)
from mmkeras.evaluation.predictions import Predictions
from mmkeras.evaluation.text_metrics import exact_matches, measure_chrf, normalize_text
from mmkeras.evaluation.top_errors import preview_row, read_contents
from mmkeras.export.inference import TrainedModel
from mmkeras.export.two_stage_inference import TwoStagePredictor
from mmkeras.modalities.preprocessing_state import FIRST_TOKEN
from mmkeras.names import split_references
from mmkeras.reports.texts import TextExamples, TextRow, WordAttention
from mmkeras.schema import TRAIN

_BATCH_TEXTS = 1024
_BINS = 30  # of lengths, at most
_ATTENTIVE_ROWS, _ATTENTIVE_WORDS = 3, 30  # shown of the best and of the worst rows


def describe_texts(
    trained_model: TrainedModel, predictions: Predictions, train_rows: Dataset | None
) -> dict:
    """Returns the section "texts" of metrics.json.

    Texts are compared as in `text_metrics`. "novelty" is the share of predictions that
    have a word and are no text of the training rows, None without `train_rows`; "empty"
    counts those without a word, and "distinct" the different ones. "vocabulary" has its
    number of tokens, how many of them predictions use, and their share. "lengths" are
    bins of the number of words of predictions and of all references.
    """
    texts = [normalize_text(text) for text in predictions.predicted]
    references = [text for row in _references(predictions) for text in row]
    return {
        "novelty": None if train_rows is None else _novelty(texts, train_rows),
        "distinct": len(set(texts)),
        "empty": texts.count(""),
        "mean_score": float(np.mean(predictions.scores)),
        "vocabulary": _vocabulary_use(trained_model, predictions.predicted),
        "lengths": count_lengths(texts, map(normalize_text, references)),
    }


def _references(predictions) -> list[list[str]]:
    return [split_references(label) for label in predictions.targets]


def _novelty(texts, train_rows) -> float:
    labels = train_rows.labels[TRAIN]
    known = {normalize_text(t) for label in labels for t in split_references(label)}
    return sum(bool(text) and text not in known for text in texts) / len(texts)


def _vocabulary_use(trained_model, texts) -> dict[str, float]:
    tokenizer = trained_model.preprocessor.tokenizer
    names, used = sorted(set(texts)), set()
    for i in range(0, len(names), _BATCH_TEXTS):
        ids = tokenizer.ids(tf.constant(names[i : i + _BATCH_TEXTS])).numpy()
        used |= set(ids[ids >= FIRST_TOKEN].tolist())
    tokens = len(trained_model.state.texts.vocabulary)
    return {"tokens": tokens, "used": len(used), "share": len(used) / tokens}


def count_lengths(predictions: Iterable[str], references: Iterable[str]) -> list[dict]:
    """Returns bins of equal width of the number of words, at most 30.

    Each is {"low", "high", "predictions", "references"}: numbers of words, both
    included, and the numbers of texts that have them.
    """
    counts = [
        Counter(len(text.split()) for text in x) for x in (predictions, references)
    ]
    low, high = (limit(key for c in counts for key in c) for limit in (min, max))
    width = -(-(high + 1 - low) // _BINS)
    bins = []
    for first in range(low, high + 1, width):
        last = first + width - 1
        values = [sum(c[n] for n in range(first, last + 1)) for c in counts]
        bins.append(
            {"low": first, "high": last, "predictions": values[0]}
            | {"references": values[1]}
        )
    return bins


def choose_examples(
    trained_model: TrainedModel,
    predictor: TwoStagePredictor,
    dataset: Dataset,
    split: str,
    predictions: Predictions,
) -> TextExamples:
    """Returns rows of the worst and the best texts, `evaluate.worst_errors` of each.

    The worst are the wrong texts with the lowest chrF, the best those with the highest,
    each text once; where these are equal, the ones with the highest scores. The first
    rows of each have the attention of their words.
    """
    rows, limit = _references(predictions), trained_model.config.evaluate.worst_errors
    correct = exact_matches(rows, predictions.predicted)
    chrf = measure_chrf(rows, predictions.predicted)
    order = np.lexsort((-predictions.scores, chrf)).tolist()
    worst = _unlike(predictions, [i for i in order if not correct[i]])[:limit]
    order = np.lexsort((-predictions.scores, -chrf, ~correct)).tolist()
    best = [i for i in _unlike(predictions, order) if i not in worst][:limit]
    columns = trained_model.preprocessor.columns
    contents = read_contents(dataset, split, {*worst, *best}, columns)
    shown = [*worst[:_ATTENTIVE_ROWS], *best[:_ATTENTIVE_ROWS]]
    words = {i: attend(trained_model, predictor, contents[i]) for i in shown}
    result = {
        i: TextRow(
            id=predictions.ids[i],
            references=rows[i],
            text=predictions.predicted[i],
            score=float(predictions.scores[i]),
            chrf=float(chrf[i]),
            is_correct=bool(correct[i]),
            status=predictions.status[i],
            previews=preview_row(row, columns),
            words=words.get(i, ()),
        )
        for i, row in contents.items()
    }
    return TextExamples(
        worst=[result[i] for i in worst], best=[result[i] for i in best]
    )


def _unlike(predictions, rows) -> list[int]:
    """Returns the first of the rows with each text."""
    first = {}
    for i in rows:
        first.setdefault(normalize_text(predictions.predicted[i]), i)
    return list(first.values())


def attend(
    trained_model: TrainedModel, predictor: TwoStagePredictor, row: Mapping[str, Any]
) -> list[WordAttention]:
    """Returns the attention of the first words of the text of a row, by column.

    The attention of a word is the mean of its tokens'.
    """
    inputs = predictor.encode({name: [value] for name, value in row.items()})
    tokens = generate_tokens(trained_model, inputs)
    attention = measure_attention(trained_model, inputs, tokens)
    words = find_words(trained_model, tokens[0])[:_ATTENTIVE_WORDS]
    if not words:
        return []
    weights = {
        name: np.stack([x[0, w.start : w.end].mean(axis=0) for w in words])  # (W, K)
        for name, x in attention.items()
    }
    heatmaps = _draw_heatmaps(predictor, row, weights)
    return [
        WordAttention(
            word=word.text,
            shares={name: float(x[i].sum()) for name, x in weights.items()},
            heatmaps={name: images[i] for name, images in heatmaps.items()},
        )
        for i, word in enumerate(words)
    ]


def _draw_heatmaps(predictor, row, weights) -> dict[str, list[bytes]]:
    """Returns column -> PNG per word, of branches whose tokens are places."""
    heatmaps = {}
    for name, branch in predictor.branches.items():
        column, *others = branch.columns
        value, scale = row[column.name], float(weights[name].max())
        if others or column.is_absent(value) or not scale:
            continue
        images = [column.draw_places(value, x, scale) for x in weights[name]]
        if all(images):
            heatmaps[column.name] = images
    return heatmaps
