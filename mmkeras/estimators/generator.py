"""Generator of texts from rows with any columns."""

from typing import Any

import numpy as np

from mmkeras.errors import UserError
from mmkeras.estimators.classifier import check_labels
from mmkeras.estimators.estimator import Estimator
from mmkeras.estimators.labels import LabelForm
from mmkeras.evaluation.text_metrics import exact_matches
from mmkeras.export.two_stage_inference import decode_texts
from mmkeras.modalities.preprocessing_state import GENERATE
from mmkeras.schema import GENERATED, N_BEST, N_BEST_SCORE, STATUS


class MultimodalGenerator(Estimator):
    """Generator of the text in the label column of a table, such as captions.

    Tables, arguments and attributes are those of `Estimator`. A row's label is a text,
    or several references: a list of texts, or one text with "|" between them. The
    default preset is small-captions.

    Example:
        generator = MultimodalGenerator(epochs=20, path="runs/a")
        generator.fit(df, label="caption")
        generator.predict(df), generator.evaluate(df)
    """

    _preset = "small-captions"
    _task = {"task": GENERATE}
    _tasks = (GENERATE,)

    def _read_form(self, table: Any, column: str, labels: Any) -> LabelForm:
        return LabelForm()  # texts have no classes, whose form would be kept

    def predict(
        self, table: Any, return_status: bool = False
    ) -> np.ndarray | tuple[np.ndarray, list[str]]:
        """Returns the text of each row, (N,) str.

        With `return_status` it is a pair with the result of `status`.

        Raises:
            UserError: The table lacks columns of the model, or cannot be read.
        """
        _, outputs = self._outputs(table, GENERATED, STATUS)
        texts = decode_texts(outputs[GENERATED])
        return (texts, list(map(str, outputs[STATUS]))) if return_status else texts

    def predict_n_best(self, table: Any) -> list[list[tuple[str, float]]]:
        """Returns the `export.n_best` best texts of each row, the best first.

        Each has its score, the mean log probability of its tokens.

        Raises:
            UserError: The model was trained without `export.n_best`, or the table
                cannot be used.

        Example:
            MultimodalGenerator(generate__beams=3, export__n_best=3)  # before `fit`
        """
        if not self.trained_model.config.export.n_best:
            raise UserError(
                "The model gives one text per row, as it was trained with "
                "export.n_best=0. Set export.n_best and generate.beams to a number of "
                "texts, and train again."
            )
        _, outputs = self._outputs(table, N_BEST, N_BEST_SCORE)
        rows = zip(outputs[N_BEST], outputs[N_BEST_SCORE].tolist(), strict=True)
        return [list(zip(decode_texts(x), scores, strict=True)) for x, scores in rows]

    def score(self, table: Any, label: Any = None) -> float:
        """Returns the share of texts that are equal to one of their row's references.

        Case and blanks make no difference. `label` has the references of each row,
        unless the table has them.

        Raises:
            UserError: A row has no label, or the table cannot be used.
        """
        reads, outputs = self._outputs(self._labeled(table, label), GENERATED)
        references = [read.row.labels for read in reads]
        check_labels(references)
        texts = decode_texts(outputs[GENERATED])
        return float(exact_matches(references, texts).mean())
