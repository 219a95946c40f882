"""Rows of a run, checked and analyzed, and the files that describe them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras

from mmkeras.config import Config, flatten, to_dict
from mmkeras.config.schedule import describe_schedule, with_schedule
from mmkeras.config.zero_shot import ZERO_SHOT
from mmkeras.console import say
from mmkeras.data.columns import describe_roles, find_columns
from mmkeras.data.dataset import Dataset, bad_rows_csv, with_columns
from mmkeras.data.demo_tables import demo_note, table_or_demo
from mmkeras.data.fit_preprocessing import fit_preprocessing
from mmkeras.data.ingest import ingest
from mmkeras.data.tables import open_table
from mmkeras.errors import UserError
from mmkeras.export import run_manifest
from mmkeras.files import check_files, write_text
from mmkeras.modalities import preprocessing_state
from mmkeras.modalities.columns import branch_types, build_branches, build_columns
from mmkeras.modalities.preprocessing_state import MULTILABEL, PreprocessingState
from mmkeras.modalities.preprocessor import Preprocessor
from mmkeras.modalities.pretrained import fetch_pretrained
from mmkeras.modalities.text.target import with_text_length
from mmkeras.schema import (
    ANALYSIS_FILE,
    ENSEMBLE_FILE,
    REJECTED_FILE,
    TRAIN,
    WARNINGS_FILE,
)
from mmkeras.training import run_folder
from mmkeras.training.distributed import strategy
from mmkeras.training.zero_shot import check_pairs

_PRINTED_ROWS = 20


@dataclass(frozen=True, kw_only=True)
class RunData:
    """Checked rows, and the preprocessing that was fitted to the training rows.

    Attributes:
        callbacks: Callbacks of Keras for the model of all branches.
        encoders: Branch -> encoder of the user, in the place of the settings.
    """

    dataset: Dataset
    preprocessor: Preprocessor
    callbacks: tuple[keras.callbacks.Callback, ...] = ()
    encoders: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> Config:
        return self.preprocessor.config

    @property
    def state(self) -> PreprocessingState:
        return self.preprocessor.state


def prepare_run(
    folder: Path, config: Config, table: Any, members: Sequence[Config] = ()
) -> RunData:
    """Checks the rows, fits the preprocessing, and writes both to the run folder.

    The table is anything that `open_table` takes; None is the demo data set of the
    task. `members` are the settings of the members of an ensemble; the preprocessing is
    that of the first.

    Example:
        run_data = prepare_run(folder, small_concat(), Path("rows.csv"))
    """
    models = members or [config]
    for model in models:
        check_files(model.files)
    rows = table_or_demo(table, config.task)
    resolved, roles = find_columns(rows, config)
    say(describe_roles(roles))
    if table is None:
        say(demo_note(config.preset, config.task))
    source = open_table(rows, cache_dir=config.table.cache_dir or None)
    if source.note:
        say(f"Table: {source.note}.")
    for model in models:
        fetch_pretrained(replace(model, columns=resolved.columns))
    if config.fusion.kind == ZERO_SHOT:
        check_pairs(resolved)
    dataset = ingest(rows, resolved, has_columns=True)
    state = fit_preprocessing(dataset, models[0])
    data = run_folder.data_name(table)
    run_data = write_run_header(folder, config, dataset, state, data, models[0])
    fingerprint = run_folder.table_fingerprint(None if table is None else source)
    run_manifest.write_manifest(folder, table=fingerprint)
    return run_data


def write_run_header(
    folder: Path,
    config: Config,
    dataset: Dataset,
    state: PreprocessingState,
    data: str,
    member: Config | None = None,
) -> RunData:
    """Writes settings, preprocessing state, rejected rows and manifest of a run.

    `config` is as the user gave it; `data` is the name of the rows in the manifest;
    `member` are the settings that the state was fitted with, if they are others.

    Raises:
        UserError: The run in the folder was started on other rows, or a setting does
            not fit the rows.
    """
    _check_settings(with_columns(config, dataset), state)
    if run_folder.has_started(folder):
        _check_same_rows(folder, config, dataset, state)
    requested, rows = config, dataset.rows[TRAIN]
    devices = strategy().num_replicas_in_sync
    config = with_text_length(with_columns(config, dataset), state)
    if run_folder.has_started(folder):
        config = run_folder.with_stored_values(folder, config)
    if not config.ensemble.is_active:  # its members have schedules of their own
        config = with_schedule(config, rows, devices)
    run_folder.write_config(folder, config)
    preprocessing_state.save(state, folder / ANALYSIS_FILE)
    if dataset.rejected:
        write_text(folder / REJECTED_FILE, bad_rows_csv(dataset.rejected))
    model = with_text_length(with_columns(member or config, dataset), state)
    dataset = replace(
        dataset, warnings=(*dataset.warnings, *_warn_unused(model, state))
    )
    if dataset.suspicious:
        write_text(folder / WARNINGS_FILE, bad_rows_csv(dataset.suspicious))
    run_manifest.write_manifest(
        folder,
        data=data,
        **_settings(folder, requested, config),
        seed=config.seed,
        fingerprint=dataset.fingerprint,
        content=dataset.content,
        split_fingerprint=dataset.split_fingerprint,
        rows=dataset.rows,
    )
    _print_data(dataset, state)
    if config.fusion.has_epochs and not config.ensemble.is_active:
        say(describe_schedule(config, rows, devices))
    preprocessor = Preprocessor(model, state)
    preprocessor.config = config
    return RunData(dataset=dataset, preprocessor=preprocessor)


def _settings(folder, requested, config) -> dict:
    """Returns what the manifest has of the settings; the first request stays."""
    if run_folder.has_started(folder):
        return {}
    settings = to_dict(requested)
    before = flatten(settings)
    after = flatten(to_dict(config))
    resolved = {k: value for k, value in after.items() if value != before[k]}
    return {"settings": settings, "resolved": resolved}


def _check_settings(config, state):
    if config.train.oversample and state.task == MULTILABEL:
        raise UserError(
            "train.oversample=True is not possible where rows have several labels; set "
            "it false, and train.class_weights=balanced."
        )
    if config.fusion.kind == ZERO_SHOT and state.task == MULTILABEL:
        raise UserError(
            "Zero-shot classification chooses one class per row, and the table has "
            "rows with several labels or none. Give it one label per row."
        )
    types = branch_types(build_branches(build_columns(config), config), config)
    for name in config.loss.unavailable(types):
        raise UserError(
            f"loss.{name}={getattr(config.loss, name)} cannot be trained, as the rows "
            f"have only {', '.join(dict.fromkeys(types.values()))}. Set it 0."
        )


def _warn_unused(config, state) -> list[str]:
    """Warns of columns that look alike in all rows, and of texts beyond the limits."""
    columns = build_columns(config)
    warnings = [column.warn_unused(state.columns[column.name]) for column in columns]
    limit = config.generate.max_tokens
    if state.texts and state.texts.longest > limit:
        warnings.append(
            f"The longest training text has {state.texts.longest} tokens. Texts are "
            f"cut after generate.max_tokens={limit}, and no longer ones are written."
        )
    if state.texts and (share := state.texts.unknown_share):
        remedy = "Raise generate.vocab_size"
        if config.generate.vocab_file:
            remedy = "Complete generate.vocab_file"
        warnings.append(
            f"{100 * share:.2g} % of the tokens of the training texts are not among "
            f"the {len(state.texts.vocabulary):,} of the vocabulary, and are not "
            f"written. {remedy}, if they matter."
        )
    return [warning for warning in warnings if warning]


def _check_same_rows(folder, config, dataset, state):
    change, path = "", folder / ANALYSIS_FILE
    if run_manifest.read_manifest(folder).get("content") != dataset.content:
        change = "table or its files have"
    # That of an ensemble is of the first member with a weight.
    elif path.exists() and not (folder / ENSEMBLE_FILE).exists():
        before = preprocessing_state.load(path)
        columns = state.columns.items()
        if name := next((n for n, x in columns if x != before.columns[n]), ""):
            change = f"vocabulary or scale of column '{name}' has"
        elif state.texts != before.texts:
            change = "vocabulary of the label has"
    if change:
        raise run_folder.changed(change, folder)


def _print_data(dataset, state):
    rows = ", ".join(f"{n:,} {split}" for split, n in dataset.rows.items())
    labels = f"{len(state.classes)} classes ({state.task})"
    if texts := state.texts:
        labels = f"texts of at most {texts.longest} tokens"
    if scale := state.label_scale:
        labels = f"regression, labels of {scale.mean:.4g} ± {scale.deviation:.4g}"
    say(f"Data: {rows} rows; {', '.join(dataset.columns)}; {labels}.")
    if dataset.rejected:
        say(f"Rejected: {len(dataset.rejected)} rows, listed in {REJECTED_FILE}.")
    for row in dataset.unreadable[:_PRINTED_ROWS]:
        say(f"Counts as absent: {row.place} (id {row.id}): {row.problem}")
    if len(dataset.unreadable) > _PRINTED_ROWS:
        say(f"Counts as absent: {len(dataset.unreadable) - _PRINTED_ROWS} more rows.")
    for warning in dataset.warnings:
        say(f"Warning: {warning}")
