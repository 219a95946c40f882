"""Folder of a search: what was asked for, its trials, and its printed result."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmkeras.errors import UserError
from mmkeras.experiments.cross_validation import check_no_folds
from mmkeras.experiments.search_space import Values
from mmkeras.files import read_json, write_text
from mmkeras.reports.score_text import score_text
from mmkeras.reports.tables import format_share, markdown_table
from mmkeras.schema import CONFIG_FILE, TUNE_FILE
from mmkeras.training.run_folder import data_name

TRIALS_DIR = "trials"
COMPLETE, PRUNED, FAILED, STOPPED = "complete", "pruned", "failed", "stopped"
_RESULT = "result"  # in tune.json, once the ensemble is exported
_BEST = 10  # trials of the printed table


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """The result of a trial, as tune.json has it.

    Attributes:
        number: Name of its folder.
        state: complete; pruned; failed, see `error`; or stopped, as the time was over.
        preset: Preset of its settings.
        settings: Settings that differ from the preset's, without those of the user.
        loss: Log loss on the validation rows, in regression the squared error divided
            by the variance of the labels; None unless complete.
        score: Accuracy or R² on the validation rows; None unless complete.
        epochs: Number of epochs that were trained.
        digest: Hash of all settings.
    """

    number: int
    preset: str
    settings: dict[str, Any] = field(default_factory=dict)
    state: str = STOPPED
    loss: float | None = None
    score: float | None = None
    epochs: int = 0
    seconds: float = 0.0
    error: str = ""
    digest: str = ""

    @property
    def folder_name(self) -> str:
        return f"{self.number:03d}"

    @property
    def name(self) -> str:
        """Preset and encoders, without numbers: "small-concat, fusion.kind=late"."""
        words = {k: v for k, v in self.settings.items() if isinstance(v, str)}
        kinds = {k: v for k, v in words.items() if k.endswith((".encoder", ".kind"))}
        return ", ".join([self.preset, *(f"{k}={v}" for k, v in kinds.items())])


@dataclass(frozen=True, kw_only=True)
class SearchArgs:
    """What a search is asked for.

    Attributes:
        table: Table of rows; None is the demo data set.
        presets: Presets to search, the first of which others are compared with.
        is_named: Whether they are named, so that none is left out.
        user_values: Settings of the user by name, which are not searched.
        trials: Largest number of trials; 0 is no limit.
    """

    table: Path | None
    presets: tuple[str, ...]
    is_named: bool
    user_values: Values
    minutes: float
    trials: int

    @property
    def fixed(self) -> dict[str, Any]:
        """What stays the same when a search goes on."""
        presets = ",".join(self.presets)
        return {"data": data_name(self.table), "presets": presets, **self.user_values}

    def is_over(self, content: dict[str, Any]) -> bool:
        """Whether the trials in tune.json are all that is asked for."""
        done = [trial for trial in content["trials"] if trial["state"] != STOPPED]
        is_late = content["seconds"] >= 60 * self.minutes
        is_enough = self.trials and len(done) >= self.trials
        return bool(done) and bool(is_late or is_enough or content["is_exhausted"])


def read_search(folder: Path, args: SearchArgs) -> dict[str, Any]:
    """Returns tune.json of a search that goes on, or {}.

    Raises:
        UserError: The folder holds something else, or a search for something else.
    """
    check_no_folds(folder)
    if not (folder / TUNE_FILE).exists():
        if (folder / CONFIG_FILE).exists():
            raise UserError(f"'{folder}' holds a single run. Give another --output.")
        return {}
    content = read_json(folder, TUNE_FILE)
    before, now = content["fixed"], args.fixed
    for name in dict.fromkeys([*before, *now]):
        if before.get(name) != now.get(name):
            words = [
                f"{name}={x[name]}" if name in x else f"no {name}"
                for x in (before, now)
            ]
            raise UserError(
                f"'{folder}' holds a search with {words[0]}, and this one has "
                f"{words[1]}. Give another --output, or the same to go on."
            )
    return content


def is_finished(content: dict[str, Any], args: SearchArgs) -> bool:
    """Whether all that is asked for is in tune.json, and exported."""
    return _RESULT in content and args.is_over(content)


def write_search(
    folder: Path, content: Mapping[str, Any], trials: Sequence[TrialResult], **more: Any
) -> None:
    """Writes tune.json."""
    results = [asdict(trial) for trial in trials]
    text = json.dumps({**content, **more, "trials": results}, indent=1)
    write_text(folder / TUNE_FILE, text)


def search_summary(folder: Path) -> str:
    """Returns the table of the best trials, and the scores of their ensemble."""
    content = read_json(folder, TUNE_FILE)
    trials = [TrialResult(**trial) for trial in content["trials"]]
    result, counts = content[_RESULT], Counter(trial.state for trial in trials)
    name = score_text(result["task"]).name
    complete = sorted(
        (trial for trial in trials if trial.state == COMPLETE), key=lambda t: t.loss
    )
    header = ("trial", "settings", "validation loss", name, "epochs", "s", "weight")
    rows = [_cells(trial, result["weights"]) for trial in complete[:_BEST]]
    validation = result["validation"]
    numbers = f"{validation['loss']:.3f}", format_share(validation["score"])
    rows.append(["ensemble", "", *numbers, "", "", ""])
    states = ", ".join(f"{n} {state}" for state, n in counts.items())
    return "\n".join(
        [
            markdown_table(header, rows),
            f"{len(trials)} trials: {states}. All settings: {folder / TUNE_FILE}",
            compare_with_first(result),
        ]
    )


def _cells(trial, weights) -> list[str]:
    share = weights.get(str(trial.number), 0)
    return [
        trial.folder_name,
        trial.name,
        f"{trial.loss:.3f}",
        format_share(trial.score),
        str(trial.epochs),
        f"{trial.seconds:.0f}",
        format_share(share) if share else "",
    ]


def compare_with_first(result: Mapping[str, Any]) -> str:
    """Returns the scores on the test rows of the ensemble and of the first trial."""
    text, test = score_text(result["task"]), result["test"]
    ensemble, first = (text.value(test[x]["value"]) for x in ("ensemble", "first"))
    gain = test["difference"]["value"]
    words = f"{text.difference(abs(gain))} {'above' if gain > 0 else 'below'}"
    return (
        f"Test rows: {text.name} {ensemble}, {words if gain else 'the same as'} the "
        f"default settings ({first}; {text.interval(test['difference'])})."
    )
