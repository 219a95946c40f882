"""Metrics of generated text with 95 % bootstrap intervals.

All metrics compare normalized texts. Arguments in this file: `references` has the
references of each of N rows, at least one for each; `texts` has the N generated texts.
"""

import unicodedata
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np

from mmkeras.environment.extras import import_extra
from mmkeras.evaluation.bootstrap import interval, percentile_interval, weight_chunks
from mmkeras.evaluation.cider import measure_cider
from mmkeras.modalities.text.ideographs import is_ideograph

EXACT_MATCH = "exact_match"
BLEU = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")
ROUGE_L = "rouge_l"
CHRF = "chrf"
CIDER_D = "cider_d"
WORD_ERROR_RATE = "word_error_rate"
TEXT_METRICS = (EXACT_MATCH, *BLEU, ROUGE_L, CHRF, CIDER_D, WORD_ERROR_RATE)

_SUBJECT = "The evaluation of generated text"
_BLEU = "bleu"  # statistics of all orders
_CHARACTERS = 6  # chrF has n-grams of 1 to 6 characters,
_RECALL_WEIGHT = 4  # and its recall weighs 2² times its precision


def normalize_text(text: str) -> str:
    """Returns text in NFKC, without case, with marks and ideographs as words.

    There is one space between words, as decoders do not know where the others were, and
    characters that only format, such as those that join emoji, are dropped.

    Example:
        >>> normalize_text(" Ein  großer\\tHund!")
        'ein grosser hund !'
    """
    # First, since what they separate may become one letter.
    visible = "".join(x for x in text if unicodedata.category(x) != "Cf")
    folded = unicodedata.normalize("NFKC", visible).casefold()
    letters = unicodedata.normalize("NFKC", folded)
    return " ".join("".join(map(_space_words, letters)).split())


def _space_words(character):
    """Returns a character with blanks around it, if it is a word of its own."""
    is_word = unicodedata.category(character)[0] in "PS" or is_ideograph(character)
    return f" {character} " if is_word else character


def exact_matches(
    references: Sequence[Sequence[str]], texts: Sequence[str]
) -> np.ndarray:
    """Returns (N,) bool: whether a text is equal to one of its references."""
    references, texts = _normalize(references, texts)
    return np.array(
        [text in row for row, text in zip(references, texts, strict=True)], bool
    )


def measure_texts(
    references: Sequence[Sequence[str]],
    texts: Sequence[str],
    resamples: int,
    seed: int,
) -> dict[str, dict[str, float | None]]:
    """Measures N generated texts, each metric with a 95 % interval.

    BLEU, chrF and the word error rate are measured on all rows, and on each resample,
    as one corpus. The others are means over rows; CIDEr-D weighs n-grams by their
    frequency in all N rows, so that it is 0 for one row.

    Returns:
        Metric -> {"value", "low", "high"}, for all `TEXT_METRICS`: shares in [0, 1],
        CIDEr-D in [0, 10], and the word error rate, from 0, the best, to above 1. The
        last is None where no reference has a word, and BLEU of n-grams where no
        reference has n words.

    Raises:
        UserError: The extra "generate" is not installed.
        ValueError: Lengths disagree, there are no rows, or one has no references.

    Example:
        >>> references = [["a dog runs on grass", "a dog runs"], ["two cats sleep"]]
        >>> texts = ["a dog runs on grass", "two cats eat"]
        >>> metrics = measure_texts(references, texts, resamples=500, seed=0)
        >>> metrics["word_error_rate"]["value"]
        0.125
    """
    references, texts = _normalize(references, texts)
    statistics, n = _collect_statistics(references, texts), len(texts)
    value = _compute_metrics(
        {name: s.sum(axis=0, keepdims=True) for name, s in statistics.items()}, n
    )
    chunks = [
        _compute_metrics({name: w @ s for name, s in statistics.items()}, n)
        for w in weight_chunks(n, resamples, seed)
    ]
    longest = max(len(text.split()) for row in references for text in row)
    for name in BLEU[longest:]:
        for part in (value, *chunks):
            part[name] = np.full_like(part[name], np.nan)
    result = {}
    for name in TEXT_METRICS:
        samples = np.concatenate([chunk[name] for chunk in chunks])
        if name == EXACT_MATCH:
            result[name] = interval(float(value[name][0]), samples, n)
        else:
            result[name] = percentile_interval(value[name][0], samples)
    return result


def compare_chrf(
    references: Sequence[Sequence[str]],
    a: Sequence[str],
    b: Sequence[str],
    resamples: int,
    seed: int,
) -> dict[str, float | None]:
    """Returns by how much the chrF of texts `a` exceeds that of `b`, in [-1, 1].

    Both are measured on the same resampled rows.
    """
    counts = [_count_character_ngrams(*_normalize(references, x)) for x in (a, b)]
    n = len(counts[0])
    value = [_chrf(x.sum(axis=0, keepdims=True)) for x in counts]
    weights = list(weight_chunks(n, resamples, seed))
    samples = [np.concatenate([_chrf(w @ x) for w in weights]) for x in counts]
    return percentile_interval(float((value[0] - value[1])[0]), samples[0] - samples[1])


def measure_chrf(
    references: Sequence[Sequence[str]], texts: Sequence[str]
) -> np.ndarray:
    """Returns the chrF (N,) of each text with the reference that is most like it."""
    return _chrf(_count_character_ngrams(*_normalize(references, texts)))


def _normalize(references, texts) -> tuple[list[list[str]], list[str]]:
    if len(references) != len(texts) or not len(texts) or not all(map(len, references)):
        raise ValueError(
            "`references` and `texts` must be of one length of at least 1, with a "
            f"reference for each row, received {len(references)} and {len(texts)}."
        )
    rows = [[normalize_text(text) for text in row] for row in references]
    return rows, [normalize_text(text) for text in texts]


def _collect_statistics(references, texts) -> dict[str, np.ndarray]:
    """Returns what metrics are computed from, each (N, K): their sums over rows are."""
    return {
        EXACT_MATCH: exact_matches(references, texts)[:, None].astype("float64"),
        _BLEU: _count_word_ngrams(references, texts),
        ROUGE_L: _measure_rouge(references, texts)[:, None],
        CHRF: _count_character_ngrams(references, texts),
        CIDER_D: measure_cider(references, texts)[:, None],
        WORD_ERROR_RATE: _count_word_errors(references, texts),
    }


def _compute_metrics(sums: dict[str, np.ndarray], n: int) -> dict[str, np.ndarray]:
    """Returns each metric (R,) from sums (R, K) of statistics over N rows."""
    means = (EXACT_MATCH, ROUGE_L, CIDER_D)
    errors, words = sums[WORD_ERROR_RATE].T
    return {
        **{name: sums[name][:, 0] / n for name in means},
        **{name: _bleu(sums[_BLEU], order) for order, name in enumerate(BLEU, 1)},
        CHRF: _chrf(sums[CHRF]),
        WORD_ERROR_RATE: errors / np.where(words > 0, words, np.nan),
    }


def _count_word_ngrams(references, texts) -> np.ndarray:
    """Returns (N, 10): counts of words and of n-grams of 1 to 4 words.

    These are words of the text and of the reference of the closest length, n-grams of
    the text that a reference has, and all n-grams of the text.
    """
    metrics = import_extra("sacrebleu.metrics", _SUBJECT)
    # Only the score of a row, which is not used, depends on `effective_order`.
    bleu = metrics.BLEU(lowercase=True, tokenize="13a", effective_order=True)
    scores = [
        bleu.sentence_score(text, row)
        for row, text in zip(references, texts, strict=True)
    ]
    return np.array(
        [[s.sys_len, s.ref_len, *s.counts, *s.totals] for s in scores], "float64"
    )


def _bleu(sums: np.ndarray, order: int) -> np.ndarray:
    """Returns BLEU (R,) of n-grams up to `order` words, from sums (R, 10).

    It is 0 where no word matches, or no text has as many words as `order`. The k-th
    order without matches counts as one of 1 / 2**k matches, as in sacrebleu by default.

    Source: Papineni et al., 2002, https://aclanthology.org/P02-1040; smoothing 3 of
    Chen and Cherry, 2014, https://aclanthology.org/W14-3346.
    """
    length, reference_length = sums[:, 0], sums[:, 1]
    counts, totals = sums[:, 2 : 2 + order], sums[:, 6 : 6 + order]
    missing = np.cumsum(counts == 0, axis=1)
    matches = np.where(counts > 0, counts, 0.5**missing)
    known = (counts[:, 0] > 0) & (totals[:, -1] > 0)
    precisions = np.where(known[:, None], matches / np.maximum(totals, 1), 1)
    excess = np.maximum(reference_length / np.maximum(length, 1) - 1, 0)
    return known * np.exp(np.log(precisions).mean(axis=1) - excess)


def _count_character_ngrams(references, texts) -> np.ndarray:
    """Returns (N, 18): n-grams of the text, of a reference, and of both.

    Each are counts for 1 to 6 characters, without spaces. The reference is the one with
    the highest chrF.
    """
    count = import_extra("sacrebleu.metrics.helpers", _SUBJECT).extract_all_char_ngrams
    result = []
    for row, text in zip(references, texts, strict=True):
        ngrams, candidates = count(text, _CHARACTERS), []
        for other in (count(reference, _CHARACTERS) for reference in row):
            shared = [a & b for a, b in zip(ngrams, other, strict=True)]
            sizes = [[sum(c.values()) for c in x] for x in (ngrams, other, shared)]
            # As in sacrebleu, a text's n-grams do not count where the reference,
            # too short, has none.
            sizes[0] = [a if b else 0 for a, b in zip(*sizes[:2], strict=True)]
            candidates.append(np.ravel(sizes))
        result.append(candidates[int(_chrf(np.array(candidates, "float64")).argmax())])
    return np.array(result, "float64")


def _chrf(sums: np.ndarray) -> np.ndarray:
    """Returns chrF2 (R,) from sums (R, 18): the F score of mean precision and recall.

    Means are over the orders which both the texts and the references have.

    Source: Popović, 2015, https://aclanthology.org/W15-3049, as in sacrebleu.
    """
    size, reference_size, shared = np.split(sums, 3, axis=1)  # (R, 6)
    known = (size > 0) & (reference_size > 0)
    orders = np.maximum(known.sum(axis=1), 1)
    precision, recall = (
        (shared / np.maximum(x, 1)).sum(axis=1) / orders for x in (size, reference_size)
    )
    denominator = _RECALL_WEIGHT * precision + recall
    product = (1 + _RECALL_WEIGHT) * precision * recall
    return product / np.where(denominator > 0, denominator, 1)


def _measure_rouge(references, texts) -> np.ndarray:
    """Returns (N,): ROUGE-L, the F1 score against the reference where it is highest.

    Source: Lin, 2004, https://aclanthology.org/W04-1013.
    """
    module = import_extra("rouge_score.rouge_scorer", _SUBJECT)
    # Its default has only words of a-z and 0-9.
    tokenizer = SimpleNamespace(tokenize=_split_words)
    scorer = module.RougeScorer(["rougeL"], tokenizer=tokenizer)
    return np.array(
        [
            scorer.score_multi(row, text)["rougeL"].fmeasure
            for row, text in zip(references, texts, strict=True)
        ]
    )


def _split_words(text: str) -> list[str]:
    """Splits at white space, punctuation and symbols of all scripts."""
    marks = {c for c in set(text) if unicodedata.category(c)[0] in "PS"}
    return "".join(" " if c in marks else c for c in text).split()


def _count_word_errors(references, texts) -> np.ndarray:
    """Returns (N, 2): words substituted, deleted or inserted, and words of a reference.

    The reference is the one with the lowest rate of errors. Words are what white space
    separates, with their punctuation.
    """
    jiwer = import_extra("jiwer", _SUBJECT)
    rows = list(zip(references, texts, strict=True))
    # jiwer 3 refuses references without words.
    pairs = [(reference, text) for row, text in rows for reference in row if reference]
    alignments = iter(
        jiwer.process_words(*map(list, zip(*pairs, strict=True))).alignments
        if pairs
        else ()
    )
    result = []
    for row, text in rows:
        candidates = [
            (_count_edits(next(alignments)), len(reference.split()))
            if reference
            else (len(text.split()), 0)
            for reference in row
        ]
        result.append(min(candidates, key=_error_rate))
    return np.array(result, "float64")


def _count_edits(alignment) -> int:
    """Counts words that differ in chunks of jiwer's alignment."""
    return sum(
        max(c.ref_end_idx - c.ref_start_idx, c.hyp_end_idx - c.hyp_start_idx)
        for c in alignment
        if c.type != "equal"
    )


def _error_rate(counts: tuple[int, int]) -> float:
    errors, words = counts
    return errors / words if words else (np.inf if errors else 0.0)
