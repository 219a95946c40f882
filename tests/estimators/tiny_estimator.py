"""Estimators of the real architecture at its smallest."""

import mmkeras

TINY = {
    "image.size_px": 32,
    "image.width": 2,
    "text.tokens": "word",
    "text.vocab_size": 16,
    "text.units": 8,
    "fusion.units": 8,
    "train.batch_size": 8,
    "train.passes": 1,
    "train.learning_rate": 0.03,
    "train.warmup_epochs": 0.0,
    "table.workers": 1,
    "evaluate.bootstrap_resamples": 20,
    "evaluate.worst_errors": 2,
    "evaluate.noise_rows": 0,
}


def new_classifier(**settings):
    """Returns a classifier that is not fitted yet."""
    settings = {"epochs": 12, **settings}
    return mmkeras.MultimodalClassifier("small-concat", settings=TINY, **settings)
