"""A fake of training in subprocesses."""

import pytest

from mmkeras.experiments import comparison_run, cross_validation
from tests.fake_training import Trainer


@pytest.fixture
def trainer(monkeypatch):
    trainer = Trainer()
    for module in (comparison_run, cross_validation):
        monkeypatch.setattr(module, "run_subprocess", trainer)
        monkeypatch.setattr(module, "sigterm_as_keyboard_interrupt", lambda: None)
    monkeypatch.setattr(comparison_run, "run_with_log", lambda *_: "not measured")
    return trainer
