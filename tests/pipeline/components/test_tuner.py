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


@pytest.fixture
def fn_args(tmp_path, tmp_path_factory):
    """Arguments of tuner_fn for a small table."""
    base = tmp_path_factory.getbasetemp() / "small"
    _, config, examples = executor_harness.small(base)
    graph, _ = executor_harness.small_transformed(base)
    tune = TuneConfig(trials=2, epochs=2, widths="4,8")
    settings = {"config": to_dict(config), "tune": asdict(tune)}
    return FnArgs(
        working_dir=str(tmp_path / "work"),
        train_files=[f"{examples.uri}/Split-train/*"],
        transform_output=graph.uri,
        custom_config={name: json.dumps(value) for name, value in settings.items()},
    )


def test_trials_differ_and_the_best_one_has_the_lowest_loss(fn_args, tmp_path):
    search = tuner.tuner_fn(fn_args).tuner
    search.search()
    trials = search.oracle.get_best_trials(2)
    assert len({t.hyperparameters.values["learning_rate"] for t in trials}) == 2
    assert {t.hyperparameters.values["fusion_units"] for t in trials} <= {4, 8}
    assert trials[0].score == min(t.score for t in trials)
    for trial in trials:
        history = (
            Path(search.trials_folder) / f"trial-{trial.trial_id}" / "history.json"
        )
        losses = [epoch["val_loss"] for epoch in json.loads(history.read_text())]
        assert len(losses) == 2 and trial.score == pytest.approx(min(losses))

    best = search.get_best_hyperparameters()[0].get_config()  # as TFX stores it
    values = keras_tuner.HyperParameters.from_config(best).values
    config = tuned(table_factory.tiny_config(tmp_path), values)
    assert config.train.learning_rate == trials[0].hyperparameters["learning_rate"]
    assert config.fusion.units == values["fusion_units"]


def test_a_search_in_which_all_trials_fail_is_an_error(fn_args, tmp_path):
    fn_args.transform_output = str(tmp_path / "none")
    with pytest.raises(RuntimeError, match=r"No trial has finished[\s\S]*none"):
        tuner.tuner_fn(fn_args).tuner.search()


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [(7, (3, 1)), ("auto", (10, 20))],  # a third; 24 rows have 30 epochs
)
def test_by_default_a_trial_has_a_third_of_the_epochs(epochs, expected, fn_args):
    content = json.loads(fn_args.custom_config["config"]) | {"epochs": epochs}
    content["train"] |= {"batch_size": "auto", "passes": "auto"}
    fn_args.custom_config["config"] = json.dumps(content)
    fn_args.custom_config["tune"] = json.dumps(asdict(TuneConfig(trials=2)))
    config = tuner.tuner_fn(fn_args).tuner.config
    assert (config.epochs, config.train.passes) == expected


def test_components_depend_only_on_the_settings_they_use(tmp_path):
    config = table_factory.tiny_config(tmp_path)
    text = replace(config.text, units=3, vocab_size=9)
    same = replace(config, epochs=99, text=text)
    other = replace(config, audio=replace(config.audio, clip_s=0.25))
    assert settings.ingest_settings(same) == settings.ingest_settings(config)
    assert settings.ingest_settings(other) != settings.ingest_settings(config)
    words = replace(config, text=replace(config.text, vocab_size=9))
    wider = replace(config, text=replace(config.text, units=3))
    for changed, is_same in ((words, False), (wider, True), (other, False)):
        result = settings.transform_settings(changed)
        assert (result == settings.transform_settings(config)) == is_same
