"""Base of the estimators: training in a run folder, and what a model gives."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_type_hints

import keras
import numpy as np

from mmkeras.config import Config
from mmkeras.config.validation import check
from mmkeras.config.values import convert
from mmkeras.console import output, say
from mmkeras.data.example_reader import RowContent
from mmkeras.environment.extras import check_extras
from mmkeras.errors import UserError
from mmkeras.estimators.arguments import callback_list, check_path
from mmkeras.estimators.configured_estimator import ConfiguredEstimator
from mmkeras.estimators.explanations import Explanations
from mmkeras.estimators.labels import LabelForm, label_form, named_columns
from mmkeras.estimators.not_fitted import NotFittedError
from mmkeras.estimators.row_predictions import (
    RowWarnings,
    explain_table,
    predict_table,
)
from mmkeras.estimators.table_evaluation import evaluate_table
from mmkeras.estimators.temporary_run import TemporaryRun
from mmkeras.estimators.training_table import (
    open_in_memory,
    with_labels,
    with_validation,
)
from mmkeras.experiments.cross_validation import check_no_folds
from mmkeras.export.inference import Predictor, TrainedModel, load_trained
from mmkeras.export.run_manifest import write_manifest
from mmkeras.files import (
    atomic_folder,
    check_output_folder,
    latest_version,
    read_json,
)
from mmkeras.reports.summary import metric_lines, run_summary
from mmkeras.schema import (
    EMBEDDING,
    EXPORT_DIR,
    HISTORY_FILE,
    METRICS_FILE,
    REPORT_FILE,
    SPLITS,
    STATUS,
    TEST,
)
from mmkeras.training.ensemble import train_run
from mmkeras.training.process_state import errors_only, restored_state
from mmkeras.training.run_folder import check_encoders, data_name, opened_run


class Estimator(ConfiguredEstimator):
    """Estimator in the manner of scikit-learn, trained in a run folder.

    A table is a path or URI of any format, a pandas DataFrame, a pyarrow.Table, a list
    of dictionaries, or a dictionary of columns. Cells of images are paths, bytes, PIL
    images or uint8 arrays (H, W, 3); of audio paths, bytes or (samples, rate_hz). A
    cell that cannot be read counts as absent in predictions.

    Attributes:
        folder_: Run folder, with report.html, model.keras, export/, ...
        config_: Settings with which the model was trained.
        history_: One dictionary of metrics per epoch.
        warnings_: Warnings of the last table that was read.
        feature_names_in_: Columns that the model reads, in its order.
        n_features_in_: Number of these.
    """

    def fit(
        self,
        table: Any,
        label: Any = None,
        *,
        validation_data: Any = None,
        callbacks: keras.callbacks.Callback | Sequence[keras.callbacks.Callback] = (),
        verbose: bool = False,
    ) -> "Estimator":
        """Trains, evaluates and exports a model, or resumes the run of `path`.

        Args:
            table: Rows for training, validation and test, divided by their column
                "split", else at random.
            label: Name of the label column, or of several of 0 and 1; or scikit-learn's
                y: a label or a list of labels per row, or a matrix of 0 and 1. A
                generator takes a text or a list of texts per row.
            validation_data: Another table with labels, or a pair (table, labels).
            callbacks: Callbacks for `keras.Model.fit`.
            verbose: Whether to print what `python -m mmkeras.train` prints.

        Raises:
            UserError: The table, a setting or the run folder cannot be used.

        Example:
            MultimodalClassifier("small-concat").fit(df, "adopted", verbose=True)
        """
        names, callbacks = named_columns(table, label), callback_list(callbacks)
        labels = label if names is None else None
        config = self.build_config(**({"table.label": names} if names else {}))
        check_extras(config)
        form = self._read_form(table, config.table.label, labels)
        rows = open_in_memory(table)
        if labels is not None:
            rows = with_labels(table, labels, config.table)
        table = with_validation(rows, validation_data, form, config.table)
        temporary_run = None if self.path else TemporaryRun()
        folder = Path(self.path) if self.path else temporary_run.path
        config = self._with_cache(config, temporary_run)
        check_no_folds(folder)
        with restored_state(), output(verbose):  # a new Keras model draws seeds
            with opened_run(folder, config, table) as is_finished:
                if is_finished:
                    check_encoders(folder, config, list(self.encoders or {}))
                else:
                    train_run(folder, config, table, callbacks, self.encoders)
                    fitted = {} if table is rows else {"train_table": data_name(rows)}
                    write_manifest(folder, labels=asdict(form), **fitted)
            say(run_summary(folder))
            trained_model = load_trained(folder)
        self._temporary_run = temporary_run  # removes that of an earlier fit
        return self.attach(folder, trained_model, form)

    def _with_cache(self, config: Config, temporary_run: TemporaryRun | None) -> Config:
        if temporary_run is None or self.build_config().table.cache_dir:
            return config
        return temporary_run.with_cache(config)

    def attach(
        self, folder: Path, trained_model: TrainedModel, form: LabelForm
    ) -> "Estimator":
        """Sets the model of a run folder; `form` is that of the labels."""
        self.__dict__.pop("_predictor", None)
        self._trained_model, self.folder_ = trained_model, folder
        self.config_ = trained_model.config
        self.feature_names_in_ = np.array(list(self.config_.columns), object)
        self.n_features_in_ = len(self.feature_names_in_)
        path = self.folder_ / HISTORY_FILE
        self.history_ = json.loads(path.read_text()) if path.exists() else []
        has_metrics = (self.folder_ / METRICS_FILE).exists()
        self.warnings_ = self._metrics()["warnings"] if has_metrics else []
        self._form = form
        self._set_labels()
        return self

    def _read_form(self, table: Any, column: str, labels: Any) -> LabelForm:
        return label_form(table, column, labels)

    def _set_labels(self) -> None:
        """Sets what depends on the form of the labels."""

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state without the model, which is in the run folder."""
        names = ("_predictor", "_trained_model")
        return {k: v for k, v in super().__getstate__().items() if k not in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if temporary_run := self.__dict__.get("_temporary_run"):
            self.folder_ = temporary_run.path
            self.config_ = self._with_cache(self.config_, temporary_run)

    def _labeled(self, table: Any, label: Any) -> Any:
        """Returns the table with labels, if they are given apart from it."""
        settings = self.trained_model.config.table
        if label is None:
            return open_in_memory(table)
        return with_labels(table, self._form.name_columns(label), settings)

    def _check_fitted(self) -> None:
        if "folder_" not in self.__dict__:
            raise NotFittedError(
                f"This {type(self).__name__} is not fitted. Call fit, or load a run by "
                "mmkeras.load."
            )

    @property
    def trained_model(self) -> TrainedModel:
        """Keras model and preprocessing."""
        self._check_fitted()
        if "_trained_model" not in self.__dict__:  # after unpickling
            with restored_state():
                self._trained_model = load_trained(self.folder_)
            self._trained_model.preprocessor.config = self.config_
        return self._trained_model

    @property
    def model(self) -> keras.Model:
        """Trained model, from preprocessed inputs to probabilities or values."""
        return self.trained_model.model

    @cached_property
    def _predictor(self) -> Predictor:
        return Predictor(self.trained_model)

    def _metrics(self) -> dict[str, Any]:
        return read_json(self.folder_, METRICS_FILE)

    def _outputs(self, table, *names) -> tuple[list[RowContent], dict[str, Any]]:
        """Returns the rows of a table and some outputs of the model, (N, ...) each."""
        self._check_fitted()
        reads, parts, warnings = [], [], RowWarnings()
        predictor, config = self._predictor, self.config_
        with errors_only(), output(verbose=False):
            for batch, outputs in predict_table(predictor, config, table, warnings):
                reads += batch
                parts.append([outputs[name] for name in names])
        self.warnings_ = warnings.texts(predictor.columns)
        columns = map(np.concatenate, zip(*parts, strict=True))
        return reads, dict(zip(names, columns, strict=True))

    def status(self, table: Any) -> list[str]:
        """Returns what is absent or unreadable in each row of a table; "ok" if nothing.

        Example:
            clf.status(df)  # ["ok", "image unreadable", "text absent; audio absent"]
        """
        return [str(text) for text in self._outputs(table, STATUS)[1][STATUS]]

    def embed(self, table: Any) -> np.ndarray:
        """Returns the fused vectors (N, D) float32 of a table.

        Raises:
            UserError: The table lacks columns of the model, or cannot be read.
        """
        return self._outputs(table, EMBEDDING)[1][EMBEDDING]

    def evaluate(
        self,
        table: Any = None,
        label: Any = None,
        *,
        split: str = TEST,
        on_bad_row: str = "absent",
        path: str | Path | None = None,
        verbose: bool = False,
    ) -> dict[str, dict[str, Any]]:
        """Returns metric -> {"value", "low", "high"}, with 95 % intervals.

        Args:
            table: Rows with labels; None is the test rows of the run.
            label: One label per row, unless the table has them.
            split: Split to use, of the run if this is the table that `fit` received,
                so that no training rows are evaluated; else of the table's split
                column, without which all rows are used.
            on_bad_row: What to do about unreadable rows, as for training.
            path: New folder for metrics.json, report.html and predictions.csv.

        Raises:
            UserError: The table cannot be used, or has a label that the model does not
                know.
        """
        model = self.trained_model
        if table is None:
            return self._metrics()["metrics"]
        convert("split", Literal[SPLITS], split)
        convert("on_bad_row", get_type_hints(Config)["on_bad_row"], on_bad_row)
        check_path(path)
        if path is not None:
            check_output_folder(Path(path), "path")
        table = self._labeled(table, label)
        with TemporaryDirectory() as tmp_folder, restored_state(), output(verbose):
            folder = Path(path or tmp_folder)
            rows = table, folder, split, on_bad_row
            metrics = evaluate_table(model, self.folder_, *rows)
            say("\n".join(metric_lines(metrics)))
        self.warnings_ = metrics["warnings"]
        return metrics["metrics"]

    def explain(self, table: Any, rows: int | None = None) -> Explanations:
        """Explains the predictions of the first rows of a table; None is all.

        Returns a list of `Explanation`, with `shares` of the branches and `parts`: the
        effects of words, image regions and parts of the audio. A notebook shows it as
        a page.

        Raises:
            UserError: The table lacks columns of the model, or cannot be read.
        """
        if rows is not None:
            check(convert("rows", int, rows) >= 0, "rows", rows, "at least 0")
        warnings = RowWarnings()
        with restored_state(), output(verbose=False):
            pairs = list(explain_table(self.trained_model, table, rows, warnings))
        columns = self.trained_model.preprocessor.columns
        self.warnings_ = warnings.texts(columns)
        return Explanations(pairs, columns)

    def export(self, path: str | Path) -> Path:
        """Copies the verified SavedModel to the next version under a folder.

        Returns its path. TensorFlow Serving may poll the folder.

        Raises:
            UserError: The run has no export, as its training was interrupted; or
                `path` is no folder.
        """
        self._check_fitted()
        if Path(path).exists() and not Path(path).is_dir():
            raise UserError(f"path '{path}' is a file; give a folder.")
        source = latest_version(self.folder_ / EXPORT_DIR)
        if source is None:
            raise UserError(f"'{self.folder_}' holds no export. Call fit to finish it.")
        latest = latest_version(Path(path))
        target = Path(path) / str(int(latest.name) + 1 if latest else 1)
        with atomic_folder(target.absolute()) as tmp_folder:
            shutil.copytree(source, tmp_folder, dirs_exist_ok=True)
        return target

    def report(self) -> Path:
        """Returns the path of the run's report.html."""
        self._check_fitted()
        return self.folder_ / REPORT_FILE
