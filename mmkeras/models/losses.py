"""Losses and metrics per task, and the model that trains with auxiliary losses."""

from collections.abc import Mapping

import keras
from keras import ops

from mmkeras.config import LossConfig
from mmkeras.config.validation import AUTO
from mmkeras.modalities.preprocessing_state import (
    GENERATE,
    MULTICLASS,
    MULTILABEL,
    REGRESSION,
)
from mmkeras.models.auxiliary_heads import ALIGNMENT_SCALE, probabilities_name
from mmkeras.models.decoder import LOGITS
from mmkeras.models.token_losses import TokenCrossEntropy, build_token_metrics
from mmkeras.schema import PRESENT, PROBABILITIES, embedding_name

_REGRESSION = {  # `config.kind` -> loss
    AUTO: keras.losses.MeanSquaredError,
    "mse": keras.losses.MeanSquaredError,
    "mae": keras.losses.MeanAbsoluteError,
    "huber": keras.losses.Huber,
}


def build_loss(
    task: str, label_smoothing: float, config: LossConfig | None = None
) -> keras.losses.Loss:
    """Returns cross-entropy on probabilities, over classes or per unit.

    It is `Focal` if `config.kind` is "focal"; in regression the mean squared, absolute
    or Huber error of standardised targets, and of a generator `TokenCrossEntropy`.
    """
    if task == GENERATE:
        return TokenCrossEntropy(label_smoothing)
    if task == REGRESSION:
        kind = AUTO if config is None else config.kind
        return _REGRESSION[kind]()
    smoothing = {"label_smoothing": label_smoothing}
    if config is not None and config.kind == "focal":
        return Focal(config.focal_gamma, label_smoothing, task == MULTICLASS)
    if task == MULTICLASS:
        return keras.losses.CategoricalCrossentropy(**smoothing)
    return keras.losses.BinaryCrossentropy(**smoothing)


def build_metrics(task: str, classes: int) -> list[keras.metrics.Metric]:
    """Returns accuracy, area under the ROC curve ("auc"), and "log_loss".

    The last is the cross-entropy without label smoothing, which runs of other settings
    share. In regression it is the absolute error, in deviations of the labels: "mae". A
    generator has the accuracy and "log_loss" of its tokens.

    Their variables exist before the first step: a training step that creates one is
    traced twice, which takes seconds.
    """
    if task == GENERATE:
        return build_token_metrics()
    if task == REGRESSION:
        return [keras.metrics.MeanAbsoluteError(name="mae")]
    accuracy = keras.metrics.BinaryAccuracy
    log_loss = keras.metrics.BinaryCrossentropy
    if task == MULTICLASS:
        accuracy = keras.metrics.CategoricalAccuracy
        log_loss = keras.metrics.CategoricalCrossentropy
    several = task == MULTILABEL
    auc = keras.metrics.AUC(
        name="auc", multi_label=several, num_labels=classes if several else None
    )
    return [accuracy(name="accuracy"), auc, log_loss(name="log_loss")]


class Focal(keras.losses.Loss):
    """Cross-entropy per row, or unit, times (1 - p)^gamma, p that of the truth.

    Keras' focal loss weighs each class of a smoothed target separately, so that rows
    that are surely right would cost nearly as much as others.

    Source: Lin et al., 2017, https://arxiv.org/abs/1708.02002, without its alpha,
    which class weights replace.
    """

    def __init__(self, gamma: float, label_smoothing: float, over_classes: bool):
        super().__init__(name="focal")
        self.gamma, self.smoothing = gamma, label_smoothing
        self.over_classes = over_classes

    def call(self, y_true, y_pred):
        y_pred = ops.clip(y_pred, 1e-7, 1 - 1e-7)
        if self.over_classes:
            smooth = y_true * (1 - self.smoothing) + self.smoothing / y_true.shape[-1]
            each = -ops.sum(smooth * ops.log(y_pred), axis=-1)
            return (1 - ops.sum(y_true * y_pred, axis=-1)) ** self.gamma * each
        smooth = y_true * (1 - self.smoothing) + self.smoothing / 2
        each = -smooth * ops.log(y_pred) - (1 - smooth) * ops.log(1 - y_pred)
        truth = y_true * y_pred + (1 - y_true) * (1 - y_pred)
        return ops.mean((1 - truth) ** self.gamma * each, axis=-1)


class Contrastive(keras.losses.Loss):
    """Symmetric contrastive loss: each row's partner among the rows of the batch.

    Takes (B, D) unit vectors of one modality, and (B, D) of another times the learned
    scale; gives the mean of both cross-entropies. A vector of zeros is a row without
    the modality: its loss is 0, and it is no candidate for the others.

    Source: Radford et al., 2021, https://arxiv.org/abs/2103.00020.
    """

    def call(self, y_true, y_pred):
        logits = ops.matmul(y_true, ops.transpose(y_pred))  # (B, B)
        both = _is_present(y_true) & _is_present(y_pred)  # (B,)
        logits = ops.where(both[:, None] & both[None, :], logits, -1e9)
        matching = ops.diagonal(logits)
        rows = ops.logsumexp(logits, axis=1) - matching
        columns = ops.logsumexp(logits, axis=0) - matching
        return ops.where(both, (rows + columns) / 2, 0.0)


class Cosine(keras.losses.Loss):
    """1 minus the cosine of a row's two unit vectors (B, D); 0 where one is absent."""

    def call(self, y_true, y_pred):
        both = _is_present(y_true) & _is_present(y_pred)
        return ops.where(both, 1 - ops.sum(y_true * y_pred, axis=1), 0.0)


def _is_present(vectors):
    return ops.any(ops.not_equal(vectors, 0), axis=1)


class JointModel(keras.Model):
    """Model that adds auxiliary unimodal and alignment losses to the fused loss.

    The training loss is L + Σ_i [λ_i·L_i + Σ_j≠i w_ij·L_ij]. Each term is a mean over
    the rows of the batch, to which rows without the modality contribute 0. Validation
    reports L, the loss of the served output, and the others as "auxiliary_loss".
    """

    def __init__(
        self,
        inputs: dict,
        outputs: dict,
        *,
        types: Mapping[str, str],
        config: LossConfig,
        replicas: int = 1,
    ):
        """Wraps all outputs of a head, by name.

        `types` is branch -> type in the order of the input "present", and of a
        generator its label as well; `replicas` is the number of devices that share a
        batch.
        """
        super().__init__(inputs=inputs, outputs=outputs)
        self._output = LOGITS if LOGITS in outputs else PROBABILITIES
        self._columns = {name: i for i, name in enumerate(types)}
        self._replicas = replicas
        self._classifiers = config.classifiers(types)
        self._pairs = [(*pair, w) for pair, w in config.pairs(types).items()]
        self._contrastive = config.alignment == "contrastive"
        self._alignment_loss = Contrastive() if self._contrastive else Cosine()
        self._auxiliary_mean = keras.metrics.Mean(name="auxiliary_loss")

    def compile(self, optimizer, loss, metrics):
        """Sets L, which is each L_i as well, and the metrics of the fused output."""
        super().compile(optimizer=optimizer)
        # Keras would look for a loss and metrics of each output.
        self._class_loss, self._fused_metrics = loss, metrics

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        loss = self._class_loss(y, y_pred[self._output], sample_weight)
        auxiliary = self._auxiliary_loss(x[PRESENT], y, y_pred, sample_weight)
        # Losses are shares of a mean over all replicas.
        rows = ops.shape(x[PRESENT])[0]
        self._auxiliary_mean.update_state(auxiliary * self._replicas, rows)
        return loss + auxiliary if training else loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        for metric in self._fused_metrics:
            metric.update_state(y, y_pred[self._output])
        return self.get_metrics_result()

    def _auxiliary_loss(self, present, y, y_pred, sample_weight):
        total = 0.0
        for m, weight in self._classifiers.items():
            rows = present[:, self._columns[m]]
            if sample_weight is not None:
                rows = rows * sample_weight
            probabilities = y_pred[probabilities_name(m)]
            total += weight * self._class_loss(y, probabilities, rows)
        for one, other, weight in self._pairs:
            vectors = y_pred[embedding_name(other)]
            if self._contrastive:
                vectors = vectors * y_pred[ALIGNMENT_SCALE]
            if sample_weight is not None:  # rows that fill up a batch count as absent
                vectors = ops.where(sample_weight[:, None] != 0, vectors, 0.0)
            # L_ij and L_ji are the same number.
            total += (
                2 * weight * self._alignment_loss(y_pred[embedding_name(one)], vectors)
            )
        return total
