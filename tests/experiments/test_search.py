from dataclasses import replace

import pytest

from mmkeras.config.presets import small_concat
from mmkeras.errors import UserError
from mmkeras.experiments import search as search_module
from mmkeras.experiments.search import Search, describe
from mmkeras.experiments.search_space import find_space
from mmkeras.export.inference import load_trained
from mmkeras.training.prepare_run import prepare_run
from mmkeras.training.process_state import restored_state
from tests import table_factory


@pytest.fixture(scope="module", autouse=True)
def restored_after_module():
    with restored_state():
        yield


@pytest.fixture(scope="module")
def open_search(tmp_path_factory):
    """Returns a function that opens a search for a table of forty texts."""
    base = tmp_path_factory.mktemp("search")
    table = table_factory.write_table(base / "data.csv", table_factory.texts())
    user_values = {
        "epochs": 12,
        "text.vocab_size": 8,
        "table.cache_dir": str(base / "cache"),
    }
    config = replace(
        small_concat(),
        table=replace(small_concat().table, cache_dir=user_values["table.cache_dir"]),
    )
    (base / "run").mkdir()
    dataset = prepare_run(base / "run", config, table).dataset

    def open_search(folder, presets=("small-concat",), **more):
        folder.mkdir(exist_ok=True)
        space, _ = find_space(presets, True, {**user_values, **more}, dataset)
        return Search(folder, space, dataset, "the rows")

    return open_search


@pytest.fixture(scope="module")
def finished(open_search, tmp_path_factory):
    """A search of six trials of two presets, and its folder."""
    folder = tmp_path_factory.mktemp("finished")
    search = open_search(folder, ("small-concat", "linear"))
    search.run(minutes=60, trials=6)
    return search


def without_seconds(search):
    return [replace(result, seconds=0.0) for result in search.results()]


def test_the_first_trials_are_the_defaults_of_each_preset(finished):
    results = finished.results()
    assert [result.number for result in results] == list(range(6))
    first, second = results[:2]
    assert (first.preset, first.settings, first.epochs) == ("small-concat", {}, 12)
    assert (second.preset, second.settings, second.epochs) == ("linear", {}, 0)
    assert {first.state, second.state} == {"complete"}
    assert first.seconds > 0 and first.score is not None


def test_trials_that_are_worse_are_pruned_early(finished):
    pruned = [r for r in finished.results() if r.state == "pruned"]
    assert pruned and {r.epochs for r in pruned} <= {4, 12}  # after the warm-up
    assert all(r.loss is None for r in pruned)
    losses = [result.loss for result in finished.complete()]
    assert losses == sorted(losses) and len(losses) + len(pruned) == 6


def test_a_complete_trial_is_a_model_with_its_settings(finished):
    for result in finished.complete():
        model = load_trained(finished.trial_folder(result))
        assert model.config.preset == result.preset
        assert model.config.epochs == 12 and model.config.text.vocab_size == 8
        if rate := result.settings.get("train.learning_rate"):
            assert model.config.train.learning_rate == rate
    for result in finished.results():
        if result.state == "pruned":
            assert not (finished.trial_folder(result) / "checkpoints").exists()


def test_an_interrupted_search_goes_on_to_the_same_trials(
    finished, open_search, tmp_path, monkeypatch
):
    fit_model, calls = search_module.fit_model, []

    def interrupt(folder, run_data):
        calls.append(folder.name)
        if len(calls) == 4:
            (folder / "left").touch()
            raise KeyboardInterrupt
        return fit_model(folder, run_data)

    monkeypatch.setattr(search_module, "fit_model", interrupt)
    presets = ("small-concat", "linear")
    with pytest.raises(KeyboardInterrupt):
        open_search(tmp_path, presets).run(minutes=60, trials=6)
    search = open_search(tmp_path, presets)
    assert without_seconds(search) == without_seconds(finished)[:3]
    search.run(minutes=60, trials=6)
    assert without_seconds(search) == without_seconds(finished)
    assert calls == ["000", "001", "002", "003", "003", "004", "005"]
    assert not (tmp_path / "trials" / "003" / "left").exists()


def test_time_ends_a_trial_which_is_run_again_when_there_is_more(open_search, tmp_path):
    search = open_search(tmp_path)
    search.run(minutes=1e-9)
    (first,) = search.results()
    assert first.state == "complete" and first.epochs == 12
    search.run(minutes=(search.seconds + 0.01) / 60)
    stopped = search.results()[1]
    assert (stopped.state, stopped.epochs) == ("stopped", 0)
    assert describe(stopped, "binary").startswith("stopped (0 epochs")
    spent = search.seconds
    assert spent == first.seconds + stopped.seconds
    search.run(minutes=spent / 60)
    assert len(search.results()) == 2

    search = open_search(tmp_path)
    search.run(minutes=60, trials=2)
    again = search.results()[1]
    assert again.state in ("complete", "pruned") and again.digest == stopped.digest
    assert search.seconds > spent


def test_what_was_tried_is_not_tried_again(open_search, tmp_path):
    search = open_search(tmp_path, ("linear",))
    search.run(minutes=60)
    assert search.is_exhausted and len(search.results()) == 1


def test_a_trial_that_fails_is_noted_and_the_others_go_on(
    open_search, tmp_path, monkeypatch, capsys
):
    fit_model = search_module.fit_model

    def fail(folder, run_data):
        if folder.name == "001":
            raise UserError("The loss became nan\nin epoch 1.")
        return fit_model(folder, run_data)

    monkeypatch.setattr(search_module, "fit_model", fail)
    monkeypatch.setattr(search_module, "KEPT", 0)
    search = open_search(tmp_path, epochs=1)
    search.run(minutes=60, trials=3)
    first, failed, third = search.results()
    assert (failed.state, failed.error) == ("failed", "The loss became nan in epoch 1.")
    assert third.state in ("complete", "pruned")
    assert "failed (0 epochs" in capsys.readouterr().out
    models = {path.parent.name for path in tmp_path.glob("trials/*/model.keras")}
    assert models == {"000"}, "others are not among the best"

    monkeypatch.setattr(
        search_module, "fit_model", lambda *_: fail(tmp_path / "001", 0)
    )
    with pytest.raises(UserError, match="became nan"):
        open_search(tmp_path / "other").run(minutes=60)
