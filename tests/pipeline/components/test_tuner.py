import json
from dataclasses import asdict, replace
from pathlib import Path

import keras_tuner
import pytest
from tfx.components.trainer.fn_args_utils import FnArgs

from mmkeras.config import to_dict
from pipeline import settings
from pipeline.components import tuner
from pipeline.settings import TuneConfig, tuned
from tests import table_factory
from tests.pipeline import executor_harness
from tests.pipeline.components.test_transform import transformed


@pytest.fixture
def fn_args(tmp_path):
    """What TFX gives to a tuner, on a small table."""
    table = table_factory.write_table(
        tmp_path / "data" / "data.csv", table_factory.make_rows()
    )
    config = table_factory.tiny_config(tmp_path / "cache")
    examples, _ = executor_harness.examples_of(table, config, tmp_path)
    transformed(examples, config, tmp_path)
    tune = TuneConfig(trials=3, epochs=2, widths="4,8")
    return FnArgs(
        working_dir=str(tmp_path / "work"),
        train_files=[f"{examples.uri}/Split-train/*"],
        transform_output=str(tmp_path / "graph"),
        custom_config={
            "config": json.dumps(to_dict(config)),
            "tune": json.dumps(asdict(tune)),
        },
    )


@pytest.mark.e2e
def test_trials_differ_and_the_best_one_has_the_lowest_loss(fn_args, tmp_path):
    search = tuner.tuner_fn(fn_args).tuner
    search.search()
    trials = search.oracle.get_best_trials(3)
    assert len({t.hyperparameters.values["learning_rate"] for t in trials}) == 3
    assert {t.hyperparameters.values["fusion_units"] for t in trials} <= {4, 8}
    assert trials[0].score == min(t.score for t in trials)
    for trial in trials:
        history = (
            Path(search.trials_folder) / f"trial-{trial.trial_id}" / "history.json"
        )
        losses = [epoch["val_loss"] for epoch in json.loads(history.read_text())]
        assert len(losses) == 2 and trial.score == pytest.approx(min(losses))

    best = search.get_best_hyperparameters()[0].get_config()  # as TFX hands it on
    values = keras_tuner.HyperParameters.from_config(best).values
    config = tuned(table_factory.tiny_config(tmp_path), values)
    assert config.train.learning_rate == trials[0].hyperparameters["learning_rate"]
    assert config.fusion.units == values["fusion_units"]


def test_settings_that_do_not_reach_the_records_are_not_the_ingests_business(tmp_path):
    config = table_factory.tiny_config(tmp_path)
    text = replace(config.text, units=3, vocab_size=9)
    same = replace(config, epochs=99, text=text)
    other = replace(config, audio=replace(config.audio, clip_s=0.25))
    assert settings.ingest_settings(same) == settings.ingest_settings(config)
    assert settings.ingest_settings(other) != settings.ingest_settings(config)
    words = replace(config, text=replace(config.text, vocab_size=9))
    wider = replace(config, text=replace(config.text, units=3))
    for changed, is_same in ((words, False), (wider, True), (other, False)):
        found = settings.transform_settings(changed)
        assert (found == settings.transform_settings(config)) == is_same
