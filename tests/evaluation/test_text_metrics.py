"""Metrics of generated text against the libraries, and their intervals."""

from importlib import util

import jiwer
import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from mmkeras.errors import UserError
from mmkeras.evaluation.bootstrap import weight_chunks
from mmkeras.evaluation.cider import measure_cider
from mmkeras.evaluation.text_metrics import (
    BLEU,
    CHRF,
    CIDER_D,
    EXACT_MATCH,
    ROUGE_L,
    TEXT_METRICS,
    WORD_ERROR_RATE,
    compare_chrf,
    exact_matches,
    measure_chrf,
    measure_texts,
    normalize_text,
)

WORDS = "a dog cat the sat on mat grass runs , big . red".split()


def sentences(lowest=0, longest=9):
    words = st.lists(st.sampled_from(WORDS), min_size=lowest, max_size=longest)
    return words.map(" ".join).map(normalize_text)


def rows(lowest=0):
    row = st.tuples(
        st.lists(sentences(lowest), min_size=1, max_size=3), sentences(lowest)
    )
    return st.lists(row, min_size=1, max_size=6)


def simulate(n, seed=0):
    """Returns references, 1 to 3 for each row, and texts with some of their words."""
    rng = np.random.default_rng(seed)
    references = [
        [" ".join(rng.choice(WORDS, rng.integers(4, 12))) for _ in range(1 + i % 3)]
        for i in range(n)
    ]
    texts = []
    for row in references:
        words = row[-1].split()
        chance = rng.choice([0, 0.1, 0.4])
        texts.append(" ".join(w if rng.random() > chance else "cow" for w in words))
    return references, texts


def measure(references, texts, resamples=20, seed=0):
    return measure_texts(references, texts, resamples, seed)


def values(references, texts):
    return {name: v["value"] for name, v in measure(references, texts).items()}


def streams(references):
    """Returns the first references of all rows, the second ones, and so on."""
    longest = max(map(len, references))
    return [
        [row[k] if k < len(row) else None for row in references] for k in range(longest)
    ]


def library_scores(references, texts):
    """Returns the corpus metrics of sacrebleu."""
    scores = {
        name: sacrebleu.BLEU(
            lowercase=True, tokenize="13a", max_ngram_order=order, force=True
        )
        for order, name in enumerate(BLEU, 1)
    } | {CHRF: sacrebleu.CHRF()}
    return {
        name: metric.corpus_score(texts, streams(references)).score / 100
        for name, metric in scores.items()
    }


@settings(max_examples=150, deadline=None)
@given(rows())
def test_bleu_and_chrf_are_those_of_sacrebleu(rows):
    references, texts = map(list, zip(*rows, strict=True))
    result = values(references, texts)
    for name, score in library_scores(references, texts).items():
        if result[name] is not None:  # of more words than any reference has
            assert result[name] == pytest.approx(score, abs=1e-9), name


def test_default_bleu_of_sacrebleu_is_the_one_of_four_words():
    references, texts = simulate(40)
    score = sacrebleu.corpus_bleu(texts, streams(references), lowercase=True).score
    assert 0 < values(references, texts)[BLEU[3]] == pytest.approx(score / 100)


@settings(max_examples=50, deadline=None)
@given(rows(lowest=1))
def test_the_word_error_rate_is_the_one_of_jiwer(rows):
    references, texts = [row[:1] for row, _ in rows], [text for _, text in rows]
    rate = jiwer.wer([row[0] for row in references], texts)
    assert values(references, texts)[WORD_ERROR_RATE] == pytest.approx(rate)


def test_rouge_is_the_mean_of_the_library_against_the_best_reference():
    references, texts = simulate(30)
    scorer = RougeScorer(["rougeL"])
    best = [
        max(scorer.score(r, text)["rougeL"].fmeasure for r in row)
        for row, text in zip(references, texts, strict=True)
    ]
    assert 0 < values(references, texts)[ROUGE_L] == pytest.approx(np.mean(best))


def test_cider_is_the_mean_over_rows_of_normalized_texts():
    references, texts = simulate(30)
    expected = measure_cider(references, texts).mean()
    shouted = [text.upper() + "  " for text in texts]
    assert 0 < values(references, shouted)[CIDER_D] == pytest.approx(expected)


def test_intervals_are_of_the_metrics_on_resampled_rows():
    references, texts = simulate(25)
    result = measure(references, texts, resamples=60, seed=3)
    (weights,) = weight_chunks(25, 60, seed=3)
    samples = [np.repeat(np.arange(25), w.astype(int)) for w in weights]
    scores = [
        library_scores([references[i] for i in s], [texts[i] for i in s])
        for s in samples
    ]
    errors = [values(references[i : i + 1], texts[i : i + 1]) for i in range(25)]
    for name in (*BLEU, CHRF):
        ends = np.percentile([score[name] for score in scores], [2.5, 97.5])
        assert [result[name]["low"], result[name]["high"]] == pytest.approx(ends)
    rouge = np.array([row[ROUGE_L] for row in errors])
    ends = np.percentile([rouge[s].mean() for s in samples], [2.5, 97.5])
    assert [result[ROUGE_L]["low"], result[ROUGE_L]["high"]] == pytest.approx(ends)


def test_intervals_contain_the_values_and_have_a_width():
    result = measure(*simulate(60), resamples=200)
    assert tuple(result) == TEXT_METRICS
    for name, metric in result.items():
        assert metric["low"] < metric["value"] < metric["high"], name


def test_equal_seeds_have_equal_intervals():
    references, texts = simulate(20)
    assert measure(references, texts, seed=1) == measure(references, texts, seed=1)
    assert measure(references, texts, seed=1) != measure(references, texts, seed=2)


def test_a_text_equal_to_a_reference_has_all_scores_one():
    references = [["a b c d e", "x"], ["f g h i"], ["k l m n"]]
    result = measure(references, ["A b  c d e", "f g h i", "k l m n"])
    for name in (*BLEU, ROUGE_L, CHRF, EXACT_MATCH):
        assert result[name]["value"] == result[name]["high"] == pytest.approx(1), name
    assert result[WORD_ERROR_RATE] == {"value": 0, "low": 0, "high": 0}
    # A row with another reference has half of it.
    assert result[CIDER_D]["value"] == pytest.approx((5 + 10 + 10) / 3)
    assert result[EXACT_MATCH]["low"] < 0.7  # three rows do not prove a rate of 1


def test_a_text_without_a_word_of_its_references_has_zero():
    result = values([["a b c d e"], ["g h i j"]], ["v w x y z", "1 2 3 4"])
    assert result.pop(WORD_ERROR_RATE) == 1
    assert set(result.values()) == {0}


def test_empty_texts_have_zero_and_all_words_deleted():
    result = values([["a b c d e"], ["g h i j", "k"]], ["", " \n"])
    assert result.pop(WORD_ERROR_RATE) == 1
    assert set(result.values()) == {0}


def test_rows_with_an_empty_reference_count_inserted_words():
    result = measure([[""], ["a b c d"], [""]], ["x y", "a b c d", ""])
    assert result[WORD_ERROR_RATE]["value"] == 2 / 4
    assert result[EXACT_MATCH]["value"] == pytest.approx(2 / 3)
    assert result[BLEU[0]]["value"] == pytest.approx(4 / 6)
    assert result[ROUGE_L]["value"] == pytest.approx(1 / 3)


def test_references_without_a_word_have_no_word_error_rate():
    result = measure([[""], [" "]], ["x y", ""])
    assert result[WORD_ERROR_RATE] == {"value": None, "low": None, "high": None}
    assert result[CHRF] == {"value": 0, "low": 0, "high": 0}


def test_the_word_error_rate_may_exceed_one():
    assert values([["a"]], ["b c d"])[WORD_ERROR_RATE] == 3


def test_word_errors_are_of_the_reference_with_the_lowest_rate():
    """1 error of 6 words is less than 1 of 2."""
    references = [["a b", "c d e f g h", ""]]
    assert values(references, ["c d e f g"])[WORD_ERROR_RATE] == pytest.approx(1 / 6)
    assert values([["a b", ""]], ["a c"])[WORD_ERROR_RATE] == 1 / 2


def test_words_of_all_scripts_count():
    reference, text = "большая собака бежит сейчас", "большая кошка бежит сейчас"
    result = values([[reference], ["हिन्दी में लिखा हुआ है"]], [text, "हिन्दी में लिखा है"])
    assert result[ROUGE_L] == pytest.approx((3 / 4 + 8 / 9) / 2)
    assert result[WORD_ERROR_RATE] == pytest.approx(2 / 9)


def test_rouge_ignores_punctuation_and_symbols():
    assert values([["a dog, a cat!"]], ["«a dog» + a→cat"])[ROUGE_L] == 1


def test_one_row_has_values_and_no_rare_words():
    result = values([["a dog runs fast"]], ["a dog runs fast"])
    assert result.pop(CIDER_D) == result.pop(WORD_ERROR_RATE) == 0
    assert list(result.values()) == pytest.approx([1] * 7)


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        (" A  Dog\t\n", "a dog"),
        ("Straße", "strasse"),
        ("\ufb01ne \u2460", "fine 1"),
        ("e\u0301a\u00a0b", "\u00e9a b"),
        ("\u3000", ""),
        ("don't (go)!", "don ' t ( go ) !"),
        ("\u1e96", "\u1e96"),
        ("红色的圆", "红 色 的 圆"),
        ("e\u200d\u0301", "\u00e9"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468 \U0001f469"),
    ],
)
def test_texts_are_normalized(text, normalized):
    assert normalize_text(text) == normalized


@given(st.text())
def test_normalized_texts_stay_as_they_are(text):
    normalized = normalize_text(text)
    assert normalize_text(normalized) == normalized
    assert "  " not in normalized and normalized == normalized.strip()


def test_a_match_is_with_any_reference():
    references = [["A dog", "the dog"], ["a cat"], [""]]
    result = exact_matches(references, ["THE  dog ", "a cat.", " "])
    assert result.tolist() == [True, False, True] and result.dtype == bool


@pytest.mark.parametrize(
    ("references", "texts"), [([], []), ([["a"]], ["a", "b"]), ([["a"], []], ["a", ""])]
)
def test_rows_without_references_are_refused(references, texts):
    with pytest.raises(ValueError, match="with a reference for each row"):
        measure(references, texts)


@pytest.mark.parametrize("module", ["sacrebleu", "rouge_score", "jiwer"])
def test_a_missing_package_names_its_extra(monkeypatch, module):
    find = util.find_spec
    monkeypatch.setattr(
        "mmkeras.environment.extras.find_spec",
        lambda name: None if name == module else find(name),
    )
    with pytest.raises(UserError, match=rf"{module}.*\.\[generate\]"):
        measure([["a"]], ["a"])
    assert exact_matches([["a"]], ["a"]).all()


def test_the_chrf_of_a_row_is_that_of_its_nearest_reference():
    references = [["dog", "a cow"], ["abc"], ["dog", "a crow"]]
    chrf = measure_chrf(references, ["A  Cow", "xyz", "a cow"])
    assert chrf[0] == 1 and chrf[1] == 0 and 0 < chrf[2] < 1


def test_two_models_are_compared_by_chrf_on_the_same_resamples():
    references, texts = simulate(20)
    equal = compare_chrf(references, texts, texts, 50, 0)
    assert equal == {"value": 0, "low": 0, "high": 0}
    gain = compare_chrf(references, texts, ["cow"] * 20, 50, 0)
    expected = [measure(references, x)[CHRF]["value"] for x in (texts, ["cow"] * 20)]
    assert gain["value"] == pytest.approx(expected[0] - expected[1])
    assert 0 < gain["low"] < gain["value"] < gain["high"]


def test_bleu_of_more_words_than_any_reference_has_is_unknown():
    result = values([["red"], ["left of"]], ["red", "left of"])
    assert result["bleu_1"] == result["bleu_2"] == 1
    assert result["bleu_3"] is None and result["bleu_4"] is None
