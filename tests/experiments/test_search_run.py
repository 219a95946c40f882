import json
from dataclasses import replace

import numpy as np
import pytest

from mmkeras.data.ingest import ingest
from mmkeras.errors import UserError
from mmkeras.evaluation.predictions import predict_split
from mmkeras.experiments import search_run
from mmkeras.experiments.search_folder import SearchArgs, is_finished, read_search
from mmkeras.export.inference import load_trained
from mmkeras.export.run_manifest import read_manifest
from mmkeras.training.process_state import restored_state
from tests import table_factory


@pytest.fixture(scope="module", autouse=True)
def restored_after_module():
    with restored_state():
        yield


@pytest.fixture(scope="module")
def args(tmp_path_factory):
    """A search of two presets on forty texts."""
    base = tmp_path_factory.mktemp("rows")
    user_values = {
        "epochs": 2,
        "text.vocab_size": 8,
        "table.cache_dir": str(base / "cache"),
    }
    user_values |= {"evaluate.bootstrap_resamples": 20, "evaluate.noise_rows": 0}
    return SearchArgs(
        table=table_factory.write_table(base / "data.csv", table_factory.texts()),
        presets=("small-concat", "linear"),
        is_named=True,
        user_values=user_values,
        minutes=60,
        trials=2,
    )


@pytest.fixture(scope="module")
def both(args, tmp_path_factory):
    """The folder of a search whose ensemble has both trials with equal weights."""
    folder = tmp_path_factory.mktemp("both")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_run, "greedy_weights", lambda *_: np.array([0.5, 0.5]))
        search_run.run_search(folder, args, read_search(folder, args))
    return folder


def test_the_folder_has_an_ensemble_that_is_exported_and_evaluated(both, args):
    names = {path.name for path in both.iterdir()}
    assert {"report.html", "metrics.json", "model.keras", "tune.json"} < names
    assert (both / "export" / "1" / "saved_model.pb").exists()
    content = read_search(both, args)
    assert is_finished(content, args) and read_manifest(both)["finished"]
    assert content["result"]["weights"] == {"1": 0.5, "0": 0.5}
    ensemble, *members = map(
        load_trained, [both, both / "trials" / "000", both / "trials" / "001"]
    )
    dataset = ingest(args.table, ensemble.config)
    each = [predict_split(x, dataset, "test") for x in (ensemble, *members)]
    labels = [predictions.predicted for predictions in each]
    mean = (each[1].probabilities + each[2].probabilities) / 2
    order = mean[:, 1].argsort()
    assert (np.diff(each[0].probabilities[order, 1]) > -1e-6).all()  # one temperature
    correct = [np.mean(np.array(x) == each[0].labels) for x in labels]
    test = content["result"]["test"]
    assert [test[x]["value"] for x in ("ensemble", "first")] == correct[:2]
    metrics = json.loads((both / "metrics.json").read_text())["metrics"]
    assert metrics["accuracy"]["value"] == correct[0]


def test_more_trials_make_a_new_version_of_the_export(both, args):
    args = replace(args, trials=3)
    before = read_search(both, args)
    assert not is_finished(before, args)
    search_run.run_search(both, args, before)
    content = read_search(both, args)
    assert [trial["number"] for trial in content["trials"]] == [0, 1, 2]
    assert content["trials"][:2] == before["trials"]
    assert content["result"]["weights"] != before["result"]["weights"]
    assert {path.name for path in (both / "export").iterdir()} == {"1", "2"}


def test_a_killed_search_goes_on_from_its_start(args, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(search_run, "prepare_run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        search_run.run_search(tmp_path, args, {})
    content = read_search(tmp_path, args)
    assert content["trials"] == [] and not is_finished(content, args)


def test_a_search_with_other_choices_is_refused(args, both):
    before = read_search(both, args)
    before["choices"] = [*before["choices"], "pretrained-small"]
    with pytest.raises(UserError, match="cannot go on: pretrained-small could be"):
        search_run.run_search(both, args, before)


def test_another_table_is_refused(args, both):
    rows = table_factory.texts()
    rows[0]["text"] = "other"
    table = table_factory.write_table(args.table, rows)
    with pytest.raises(UserError, match="table or its files have changed"):
        search_run.run_search(both, args, read_search(both, args))
    table_factory.write_table(table, table_factory.texts())
