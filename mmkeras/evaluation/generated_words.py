"""Tokens of generated texts, the words they make, and their attention to branches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from mmkeras.export.inference import TrainedModel
from mmkeras.export.text_search import search_texts
from mmkeras.export.two_stage_inference import Arrays
from mmkeras.modalities.preprocessing_state import FIRST_TOKEN, START
from mmkeras.modalities.text.pieces import CONTINUATION
from mmkeras.models.decoder import ATTENTION, TOKENS, select_decoder_inputs
from mmkeras.models.generator import get_decoder
from mmkeras.models.model import HEAD, run_head


@dataclass(frozen=True)
class Word:
    """Word of a text, and its tokens: those from `start` on and before `end`."""

    text: str
    start: int
    end: int


def generate_tokens(trained_model: TrainedModel, inputs: Arrays) -> np.ndarray:
    """Returns the tokens of the best text of each row, (N, max_tokens + 1) int32.

    `inputs` are N rows of `TwoStagePredictor.encode`. The end token is one of the
    tokens, and 0 follows.
    """
    decoder = get_decoder(trained_model.model)
    memory = _run_head(trained_model, inputs)
    texts = search_texts(decoder, memory, trained_model.config.generate)
    return texts.tokens[:, 0].numpy()


def _run_head(trained_model, inputs):
    tensors = {name: tf.constant(x) for name, x in inputs.items()}
    return run_head(trained_model.model, tensors)


def join_tokens(trained_model: TrainedModel, tokens: np.ndarray) -> list[str]:
    """Returns the texts of tokens (N, L)."""
    texts = trained_model.preprocessor.tokenizer.texts(tf.constant(tokens))
    return [text.decode() for text in texts.numpy()]


def find_words(trained_model: TrainedModel, tokens: Sequence[int]) -> list[Word]:
    """Returns the words of a text, in order; together they have all its tokens.

    Punctuation marks are words unless tokens are characters, whose words are what
    blanks separate.
    """
    kind = trained_model.config.generate.tokens
    vocabulary = trained_model.state.texts.vocabulary
    names = [vocabulary[i - FIRST_TOKEN] for i in tokens if i >= FIRST_TOKEN]
    starts = [i for i in range(len(names)) if _is_start(names, i, kind)]
    ends = [*starts[1:], len(names)][: len(starts)]
    words = []
    for start, end in zip(starts, ends, strict=True):
        pieces = (name.removeprefix(CONTINUATION) for name in names[start + 1 : end])
        text = "".join((names[start], *pieces)) if kind == "wordpiece" else ""
        words.append(Word(text or "".join(names[start:end]).strip(), start, end))
    return words


def _is_start(names, i, kind) -> bool:
    """Whether the i-th token is the first of a word."""
    if i == 0 or kind == "word":
        return True
    if kind == "wordpiece":
        return not names[i].startswith(CONTINUATION)
    is_after_blank = names[i - 1] == " " and names[i] != " "
    return is_after_blank and any(name != " " for name in names[:i])


def count_branch_tokens(trained_model: TrainedModel) -> dict[str, int]:
    """Returns branch -> number of its tokens in the decoder's memory, in order."""
    head = trained_model.model.get_layer(HEAD)
    return {
        name: head.get_layer(f"place_{i}").output.shape[1]
        for i, name in enumerate(trained_model.preprocessor.branches)
    }


def measure_attention(
    trained_model: TrainedModel, inputs: Arrays, tokens: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns branch -> attention (N, L, K) of each token to those of the branch.

    Over all branches it sums to 1; an absent branch has one token. Arguments are those
    of `generate_tokens` and its result.
    """
    decoder = get_decoder(trained_model.model)
    memory = _run_head(trained_model, inputs)
    read = np.concatenate([np.full_like(tokens[:, :1], START), tokens[:, :-1]], axis=1)
    decoder_inputs = {**select_decoder_inputs(memory), TOKENS: tf.constant(read)}
    outputs = decoder(decoder_inputs, training=False)
    counts = count_branch_tokens(trained_model)
    ends = np.cumsum(list(counts.values()))[:-1]
    parts = np.split(outputs[ATTENTION].numpy(), ends, axis=2)
    return dict(zip(counts, parts, strict=True))
