"""Run of a search: its trials, and the ensemble of the best, exported and evaluated."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mmkeras import schema
from mmkeras.console import say
from mmkeras.errors import UserError
from mmkeras.evaluation.ensemble_weights import greedy_weights, mean_loss
from mmkeras.evaluation.predictions import predict_split
from mmkeras.evaluation.scores import compare_scores, score, score_interval
from mmkeras.experiments.search import KEPT, PREDICTIONS_FILE, Search
from mmkeras.experiments.search_folder import SearchArgs, write_search
from mmkeras.experiments.search_space import build, find_space
from mmkeras.export.ensemble import combine_models, save_ensemble
from mmkeras.export.inference import load_trained
from mmkeras.export.run_manifest import read_manifest, write_manifest
from mmkeras.export.saved_model import export
from mmkeras.files import latest_version
from mmkeras.reports.score_text import score_text
from mmkeras.training.ensemble import calibrate_mean
from mmkeras.training.prepare_run import RunData, prepare_run
from mmkeras.training.run_folder import changed
from mmkeras.training.steps import finish_run, golden_rows, save_model

_EXPORTED = "exported"  # in the manifest: weights of the latest export


def run_search(folder: Path, args: SearchArgs, before: dict[str, Any]) -> None:
    """Runs the trials that are left, and exports the ensemble of the best ones.

    `before` is the result of `read_search`. tune.json has all trials, also after an
    interrupt.

    Raises:
        UserError: The table has changed, or the first preset cannot be trained.
    """
    first = build(args.presets[0], {}, args.user_values)
    content = {"fixed": args.fixed, "seconds": 0.0, "is_exhausted": False}
    if not before:  # so that the folder is one of a search, whenever it is killed
        write_search(folder, content, [])
    run_data = prepare_run(folder, first, args.table)
    content["content"] = run_data.dataset.content
    if before.get("content", content["content"]) != content["content"]:
        raise changed("table or its files have", folder)
    space, left_out = find_space(
        args.presets, args.is_named, args.user_values, run_data.dataset
    )
    content["choices"] = space.choices
    _check_choices(folder, before.get("choices", space.choices), space.choices)
    if not before.get("choices"):
        write_search(folder, content, [])
    limit = f" or {args.trials} trials" if args.trials else ""
    presets = ", ".join(space.candidates)
    say(f"Search of {presets}: {args.minutes:g} minutes{limit}.")
    for name, reason in left_out.items():
        say(f"Left out: {name}. {reason}")
    search = Search(folder, space, run_data.dataset, args.fixed["data"])
    try:
        search.run(args.minutes, args.trials)
    finally:
        content |= {"seconds": search.seconds, "is_exhausted": search.is_exhausted}
        write_search(folder, content, search.results())
    result = export_best(folder, search, run_data)
    write_search(folder, content, search.results(), result=result)


def _check_choices(folder, before, now) -> None:
    if before != now:
        others = ", ".join(sorted(set(before) ^ set(now)))
        raise UserError(
            f"The search in '{folder}' cannot go on: {others} could be chosen before "
            "and cannot now, or the reverse, as weights or packages have changed. Give "
            "another --output."
        )


def export_best(folder: Path, search: Search, run_data: RunData) -> dict[str, Any]:
    """Writes the run folder of the ensemble of the best trials.

    `run_data` is that of the first trial. Returns the content of tune.json: task,
    weights by number of a trial, loss and score on the validation rows, and the scores
    on the test rows of the ensemble and of the first trial with their difference.
    """
    best = search.complete()[:KEPT]
    if all(result.number for result in best):
        best.append(next(r for r in search.complete() if r.number == 0))
    folders = [search.trial_folder(result) for result in best]
    arrays = [np.load(path / PREDICTIONS_FILE) for path in folders]
    targets, predictions = arrays[0]["targets"], [x["predictions"] for x in arrays]
    task = run_data.state.task
    weights = greedy_weights(predictions, targets, task)
    kept = [i for i, weight in enumerate(weights) if weight]
    members = {best[i].number: float(weights[i]) for i in kept}
    names = [best[i].folder_name for i in kept]
    say(f"Ensemble of the trials {', '.join(names)}.")
    mean = np.tensordot(weights, predictions, axes=1)
    model = combine_models(
        (load_trained(folders[i]) for i in kept),
        list(members.values()),
        run_data.config,
        names,
    )
    mean = calibrate_mean(model, mean, targets)
    save_model(model.model, folder)
    save_ensemble(folder, model)
    base_path, exported = folder / schema.EXPORT_DIR, _by_name(members)
    before = read_manifest(folder).get(_EXPORTED)
    if latest_version(base_path) and before != exported:
        export(model, golden_rows(run_data), base_path)
        say(f"Export: a new version, verified, {base_path}.")
    members_data = replace(run_data, preprocessor=model.preprocessor)
    finish_run(folder, members_data, model, [], summary=_summary(search, members))
    write_manifest(folder, **{_EXPORTED: exported})
    first = load_trained(search.trial_folder(search.results()[0]))
    (value,), _ = score(task, targets, [mean], 1, 0)
    return {
        "task": task,
        "weights": exported,
        "validation": {"loss": mean_loss(mean, targets, task), "score": float(value)},
        "test": _compare(model, first, run_data.dataset),
    }


def _by_name(members) -> dict[str, float]:
    return {str(number): weight for number, weight in members.items()}


def _compare(model, first, dataset) -> dict[str, dict]:
    """Returns the test scores of two models, and by how much the first exceeds."""
    pair = [predict_split(x, dataset, schema.TEST) for x in (model, first)]
    config, task = model.config, model.state.task
    targets, predictions = pair[0].targets, [x.probabilities for x in pair]
    settings = config.evaluate.bootstrap_resamples, config.seed
    values, resampled = score(task, targets, predictions, *settings)
    scores = [
        score_interval(task, value, each, len(targets))[score_text(task).key]
        for value, each in zip(values, resampled, strict=True)
    ]
    difference = compare_scores(task, targets, *predictions, *settings)
    return {"ensemble": scores[0], "first": scores[1], "difference": difference}


def _summary(search, members) -> dict[str, str]:
    """Returns facts for the report."""
    weights = [f"{number:03d} {weight:.2f}" for number, weight in members.items()]
    return {
        "Search": f"{len(search.results())} trials, {search.seconds:.0f} s",
        "Members": ", ".join(weights),
    }
