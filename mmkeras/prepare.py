"""The rows of a run: checked, analysed, and noted in its folder. TFX does so too."""

from dataclasses import dataclass
from pathlib import Path

from mmkeras import embedded, run
from mmkeras.analyze import analyze
from mmkeras.config import Config, to_dict
from mmkeras.errors import UserError
from mmkeras.files import check_files
from mmkeras.ingested import Ingested, rejected_csv, resolved
from mmkeras.preprocess import analysis as analyses
from mmkeras.preprocess.analysis import MULTILABEL, Analysis
from mmkeras.preprocess.graph import Preprocessor
from mmkeras.records import ingest
from mmkeras.schema import ANALYSIS_FILE, REJECTED_FILE

_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Checked rows, and what was learned from the training ones."""

    ingested: Ingested
    preprocessor: Preprocessor

    @property
    def config(self) -> Config:
        return self.preprocessor.config

    @property
    def analysis(self) -> Analysis:
        return self.preprocessor.analysis


def prepare(folder: Path, config: Config, table: Path | None) -> Prepared:
    """Checks the rows, analyses the training ones, and notes both in the folder."""
    check_files(config.files)
    source = table or embedded.make(embedded.default_folder()) / "data.csv"
    ingested = ingest(source, config)
    analysis = analyze(ingested, resolved(config, ingested))
    return begin(folder, config, ingested, analysis, run.data_name(table))


def begin(
    folder: Path, config: Config, ingested: Ingested, analysis: Analysis, data: str
) -> Prepared:
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
    if config.train.oversample and analysis.task == MULTILABEL:
        raise UserError(
            "train.oversample=True is not possible where rows have several labels; set "
            "it false, and train.class_weights=balanced."
        )
    for name in config.loss.unmet(analysis.modalities):
        raise UserError(
            f"loss.{name}={getattr(config.loss, name)} cannot be trained, as the rows "
            f"have only {', '.join(analysis.modalities)}. Set it 0."
        )
    before = run.read_manifest(folder).get("content")
    if run.has_begun(folder) and before != ingested.content:
        raise UserError(
            f"The table or its files have changed since the run in '{folder}' began. "
            "Give another --output."
        )
    path = folder / ANALYSIS_FILE
    if run.has_begun(folder) and path.exists():
        if analyses.load(path).vocabulary != analysis.vocabulary:
            raise UserError(
                f"The vocabulary has changed since the run in '{folder}' began: "
                f"text.vocab_file='{config.text.vocab_file}'. Give another --output."
            )
    requested, config = config, resolved(config, ingested)
    run.write_config(folder, config)
    analyses.save(analysis, folder / ANALYSIS_FILE)
    _write_rejected(folder, ingested)
    run.write_manifest(
        folder,
        data=data,
        settings=to_dict(requested),
        seed=config.seed,
        fingerprint=ingested.fingerprint,
        content=ingested.content,
        split_fingerprint=ingested.split_fingerprint,
        rows=ingested.rows,
    )
    _say_data(ingested, analysis)
    return Prepared(ingested=ingested, preprocessor=Preprocessor(config, analysis))


def _write_rejected(folder, ingested):
    if ingested.rejected:
        run.write_text(folder / REJECTED_FILE, rejected_csv(ingested.rejected))


def _say_data(ingested, analysis):
    rows = ", ".join(f"{n:,} {split}" for split, n in ingested.rows.items())
    print(
        f"Data: {rows} rows; {', '.join(ingested.modalities)}; "
        f"{len(analysis.classes)} classes ({analysis.task})."
    )
    if ingested.rejected:
        print(f"Rejected: {len(ingested.rejected)} rows, listed in {REJECTED_FILE}.")
    for bad in ingested.unreadable[:_SHOWN]:
        print(f"Counts as absent: line {bad.line} (id {bad.id}): {bad.problem}")
    if len(ingested.unreadable) > _SHOWN:
        print(f"Counts as absent: {len(ingested.unreadable) - _SHOWN} more rows.")
    for warning in ingested.warnings:
        print(f"Warning: {warning}")
