"""The rows of a run: checked, analysed, and noted in its folder. TFX does so too."""

from dataclasses import dataclass
from pathlib import Path

from mmkeras import files
from mmkeras.config import Config, to_dict
from mmkeras.data import demo_dataset
from mmkeras.data.dataset import Dataset, rejected_csv, with_detected_encoders
from mmkeras.data.fit_preprocessing import fit_preprocessing
from mmkeras.data.ingest import ingest
from mmkeras.errors import UserError
from mmkeras.export import run_manifest
from mmkeras.files import check_files
from mmkeras.modalities import preprocessing_state
from mmkeras.modalities.preprocessing_state import MULTILABEL, PreprocessingState
from mmkeras.modalities.preprocessor import Preprocessor
from mmkeras.schema import ANALYSIS_FILE, REJECTED_FILE
from mmkeras.training import run_folder

_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class RunData:
    """Checked rows, and what was learned from the training ones."""

    dataset: Dataset
    preprocessor: Preprocessor

    @property
    def config(self) -> Config:
        return self.preprocessor.config

    @property
    def state(self) -> PreprocessingState:
        return self.preprocessor.state


def prepare_run(folder: Path, config: Config, table: Path | None) -> RunData:
    """Checks the rows, analyses the training ones, and notes both in the folder."""
    check_files(config.files)
    source = (
        table or demo_dataset.make_dataset(demo_dataset.default_folder()) / "data.csv"
    )
    dataset = ingest(source, config)
    state = fit_preprocessing(dataset, with_detected_encoders(config, dataset))
    return write_run_header(folder, config, dataset, state, run_folder.data_name(table))


def write_run_header(
    folder: Path,
    config: Config,
    dataset: Dataset,
    state: PreprocessingState,
    data: str,
) -> RunData:
    """Notes in the folder what the run is made of.

    Args:
        folder: The run folder; exists.
        config: All settings, as the user gave them.
        ingested: The rows.
        analysis: What the training rows have taught.
        data: How the manifest calls the rows.

    Raises:
        UserError: The run in the folder was begun on other rows, or the loss has terms
            of modalities that the rows do not have.
    """
    if config.train.oversample and state.task == MULTILABEL:
        raise UserError(
            "train.oversample=True is not possible where rows have several labels; set "
            "it false, and train.class_weights=balanced."
        )
    for name in config.loss.unmet(state.modalities):
        raise UserError(
            f"loss.{name}={getattr(config.loss, name)} cannot be trained, as the rows "
            f"have only {', '.join(state.modalities)}. Set it 0."
        )
    before = run_manifest.read_manifest(folder).get("content")
    if run_folder.has_started(folder) and before != dataset.content:
        raise UserError(
            f"The table or its files have changed since the run in '{folder}' began. "
            "Give another --output."
        )
    path = folder / ANALYSIS_FILE
    if run_folder.has_started(folder) and path.exists():
        if preprocessing_state.load(path).vocabulary != state.vocabulary:
            raise UserError(
                f"The vocabulary has changed since the run in '{folder}' began: "
                f"text.vocab_file='{config.text.vocab_file}'. Give another --output."
            )
    requested, config = config, with_detected_encoders(config, dataset)
    run_folder.write_config(folder, config)
    preprocessing_state.save(state, folder / ANALYSIS_FILE)
    _write_rejected(folder, dataset)
    run_manifest.write_manifest(
        folder,
        data=data,
        settings=to_dict(requested),
        seed=config.seed,
        fingerprint=dataset.fingerprint,
        content=dataset.content,
        split_fingerprint=dataset.split_fingerprint,
        rows=dataset.rows,
    )
    _say_data(dataset, state)
    return RunData(dataset=dataset, preprocessor=Preprocessor(config, state))


def _write_rejected(folder, dataset):
    if dataset.rejected:
        files.write_text(folder / REJECTED_FILE, rejected_csv(dataset.rejected))


def _say_data(dataset, state):
    rows = ", ".join(f"{n:,} {split}" for split, n in dataset.rows.items())
    print(
        f"Data: {rows} rows; {', '.join(dataset.modalities)}; "
        f"{len(state.classes)} classes ({state.task})."
    )
    if dataset.rejected:
        print(f"Rejected: {len(dataset.rejected)} rows, listed in {REJECTED_FILE}.")
    for bad in dataset.unreadable[:_SHOWN]:
        print(f"Counts as absent: line {bad.line} (id {bad.id}): {bad.problem}")
    if len(dataset.unreadable) > _SHOWN:
        print(f"Counts as absent: {len(dataset.unreadable) - _SHOWN} more rows.")
    for warning in dataset.warnings:
        print(f"Warning: {warning}")
