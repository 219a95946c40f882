"""Base of the estimators: training in a run folder, and what a model gives."""

import json
import shutil
import weakref
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import keras
import numpy as np

from mmkeras.console import output, say
from mmkeras.data.example_reader import RowContent
from mmkeras.environment.extras import check_extras
from mmkeras.errors import UserError
from mmkeras.estimators.configured_estimator import ConfiguredEstimator
from mmkeras.estimators.explanations import Explanations
from mmkeras.estimators.row_predictions import (
    RowWarnings,
    explain_table,
    predict_table,
)
from mmkeras.estimators.table_evaluation import evaluate_table
from mmkeras.estimators.training_table import (
    open_in_memory,
    training_table,
    with_labels,
)
from mmkeras.experiments.cross_validation import check_no_folds
from mmkeras.export.inference import Predictor, TrainedModel, load_trained
from mmkeras.files import atomic_folder, latest_version, read_json
from mmkeras.reports.summary import metric_lines, run_summary
from mmkeras.schema import (
    EMBEDDING,
    EXPORT_DIR,
    HISTORY_FILE,
    METRICS_FILE,
    REPORT_FILE,
    STATUS,
    TEST,
)
from mmkeras.training.process_state import errors_only, restored_state
from mmkeras.training.run_folder import opened_run
from mmkeras.training.steps import train


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
    """

    def fit(
        self,
        table: Any,
        label: Any = None,
        *,
        validation_data: Any = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        verbose: bool = False,
    ) -> "Estimator":
        """Trains, evaluates and exports a model, or resumes the run of `path`.

        Args:
            table: Rows for training, validation and test, divided by their column
                "split", else at random.
            label: Name of the label column; or one label per row, as scikit-learn's y.
            validation_data: Another table, or a pair (table, labels).
            callbacks: Callbacks for `keras.Model.fit`.
            verbose: Whether to print what `python -m mmkeras.train` prints.

        Raises:
            UserError: The table, a setting or the run folder cannot be used.

        Example:
            MultimodalClassifier("small-concat").fit(df, "adopted", verbose=True)
        """
        values, labels = {}, label
        if isinstance(label, str):
            values, labels = {"table.label": label}, None
        config = self.build_config(**values)
        check_extras(config)
        table = training_table(table, labels, validation_data, config.table)
        folder = Path(self.path or self._new_folder())
        if self.path is None and not config.table.cache_dir:
            cache_dir = str(folder.with_name("cache"))
            config = replace(config, table=replace(config.table, cache_dir=cache_dir))
        check_no_folds(folder)
        with restored_state(), output(verbose):  # a new Keras model draws seeds
            with opened_run(folder, config, table) as is_finished:
                if not is_finished:
                    train(folder, config, table, callbacks, self.encoders)
            say(run_summary(folder))
            return self.attach(folder, load_trained(folder), labels)

    def _new_folder(self) -> Path:
        """Returns a run folder in a temporary one; removes that of an earlier fit."""
        if finalizer := self.__dict__.pop("_finalizer", None):
            finalizer()
        folder = mkdtemp(prefix="mmkeras-")
        self._finalizer = weakref.finalize(self, shutil.rmtree, folder, True)
        return Path(folder) / "run"

    def attach(
        self, folder: Path, trained_model: TrainedModel, labels: Any = None
    ) -> "Estimator":
        """Sets the model of a run folder; `labels` are those that `fit` received."""
        self.__dict__.pop("_predictor", None)
        self._trained_model, self.folder_ = trained_model, folder
        self.config_ = trained_model.config
        path = self.folder_ / HISTORY_FILE
        self.history_ = json.loads(path.read_text()) if path.exists() else []
        has_metrics = (self.folder_ / METRICS_FILE).exists()
        self.warnings_ = self._metrics()["warnings"] if has_metrics else []
        self._set_labels(labels)
        return self

    def _set_labels(self, labels: Any) -> None:
        """Sets what depends on the labels as they were given to `fit`."""

    def _labeled(self, table: Any, label: Any) -> Any:
        """Returns the table with labels, if they are given apart from it."""
        settings = self.trained_model.config.table
        if label is None:
            return open_in_memory(table)
        return with_labels(table, label, settings)

    def _check_fitted(self) -> None:
        if "_trained_model" not in self.__dict__:
            raise UserError(
                f"This {type(self).__name__} is not fitted. Call fit, or load a run by "
                "mmkeras.load."
            )

    @property
    def trained_model(self) -> TrainedModel:
        """Keras model and preprocessing."""
        self._check_fitted()
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
            split: Split to use; all rows if the table has no split column.
            on_bad_row: What to do about unreadable rows, as for training.
            path: New folder for metrics.json, report.html and predictions.csv.

        Raises:
            UserError: The table cannot be used, or has a label that the model does not
                know.
        """
        model = self.trained_model
        if table is None:
            return self._metrics()["metrics"]
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
        """
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
            UserError: The run has no export, as its training was interrupted.
        """
        self._check_fitted()
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
