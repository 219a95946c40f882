"""The serving function: raw bytes to predictions and embeddings."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mmkeras import schema
from mmkeras.cli import load_config
from mmkeras.config import Config
from mmkeras.config.table import split_names
from mmkeras.environment.extras import check_extras
from mmkeras.errors import UserError
from mmkeras.export.run_manifest import check_keras
from mmkeras.export.text_search import IMPOSSIBLE, search_texts
from mmkeras.files import read_json
from mmkeras.modalities import preprocessing_state
from mmkeras.modalities.columns import WIDTH, branch_types
from mmkeras.modalities.ensemble_preprocessor import EnsemblePreprocessor, Member
from mmkeras.modalities.preprocessing_state import (
    GENERATE,
    MULTILABEL,
    PADDING,
    REGRESSION,
    PreprocessingState,
)
from mmkeras.modalities.preprocessor import Preprocessor
from mmkeras.modalities.text.features import is_utf8
from mmkeras.models.generator import get_decoder, get_label_encoder
from mmkeras.models.model import with_outputs
from mmkeras.models.tasks import predicted_values

Outputs = dict[str, tf.Tensor]


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A trained model and its preprocessing."""

    preprocessor: Preprocessor
    model: keras.Model

    @property
    def config(self) -> Config:
        return self.preprocessor.config

    @property
    def state(self) -> PreprocessingState:
        return self.preprocessor.state


def load_settings(folder: str | Path) -> tuple[Config, PreprocessingState]:
    """Reads the settings and the preprocessing state of a run folder."""
    config = load_config(Path(folder) / schema.CONFIG_FILE)
    state = preprocessing_state.load(Path(folder) / schema.ANALYSIS_FILE)
    return (config, state) if config.columns else upgrade(config, state)


def upgrade(
    config: Config, state: PreprocessingState
) -> tuple[Config, PreprocessingState]:
    """Converts settings of before columns, with text, image and audio.

    The inputs of its models are named by the type, whatever the name of the column.
    """
    names = {m: (*split_names(getattr(config.table, m)), m)[0] for m in state.branches}
    entries = {name: {"type": m, "key": m} for m, name in names.items()}
    for m, name in names.items():
        if getattr(getattr(config, m), "encoder", "") == "vector":
            entries[name][WIDTH] = state.columns[m]["width"]
    return replace(config, columns=entries), replace(
        state,
        branches={name: (name,) for name in names.values()},
        columns={name: state.columns[m] for m, name in names.items()},
    )


def load_trained(folder: Path) -> TrainedModel:
    """Loads the model of a run folder.

    Raises:
        UserError: The folder is not a run folder, or has no model yet.

    Example:
        predictor = Predictor(load_trained(Path("runs/a")))
    """
    folder = Path(folder)
    for name in (schema.CONFIG_FILE, schema.ANALYSIS_FILE, schema.MODEL_FILE):
        if not (folder / name).is_file():
            raise UserError(
                f"'{folder}' holds no {name}; give the run folder that "
                "`python -m mmkeras.train` printed."
            )
    check_keras(folder)
    preprocessor = _load_preprocessor(folder)
    return TrainedModel(
        preprocessor=preprocessor,
        model=keras.models.load_model(folder / schema.MODEL_FILE, compile=False),
    )


def _load_preprocessor(folder: Path) -> Preprocessor:
    """Loads the preprocessing of a run, and the layers of its encoders."""
    if (folder / schema.ENSEMBLE_FILE).exists():
        config, _ = load_settings(folder)
        members = [
            Member(
                preprocessor=_load_preprocessor(
                    folder / schema.MEMBERS_DIR / entry["name"]
                ),
                **entry,
            )
            for entry in read_json(folder, schema.ENSEMBLE_FILE)["members"]
        ]
        return EnsemblePreprocessor(config, members)
    config, state = load_settings(folder)
    check_extras(config)
    preprocessor = Preprocessor(config, state)
    for branch in preprocessor.branches.values():
        branch.import_encoder()
    return preprocessor


def build_serve(
    trained_model: TrainedModel, *, predicts: bool = True
) -> Callable[[dict[str, tf.Tensor]], Outputs]:
    """Builds the function from (B,) values by column to the outputs.

    Outputs: "probabilities" (B, C) float32, also in binary tasks; "label" (B,) string,
    in multi-label tasks the classes at 0.5 and above joined by "|"; "score" (B,)
    float32, the highest probability; "status" (B,) string; and those of
    `embedding_names`, the fused vector (B, D) float32 and each aligned one (B, W). In
    regression "value" (B,) float32 is in the place of the first three, and of a
    generator the outputs of `generate_texts`. Without `predicts` there are status and
    vectors only, as the search of a generator takes time.
    """
    names = embedding_names(trained_model)
    model = with_outputs(trained_model.model)

    def serve(data: dict[str, tf.Tensor]) -> Outputs:
        # oneDNN's convolution returns a wrong shape for an empty batch. It is replaced
        # by an absent row, whose result is cut off.
        rows = tf.size(next(iter(data.values())))
        data = {name: _fill_empty(values) for name, values in data.items()}
        inputs, status = trained_model.preprocessor(data)
        result = model(inputs, training=False)
        outputs = {
            **(_describe(result, trained_model) if predicts else {}),
            schema.STATUS: status,
            **{name: result[name] for name in names},
        }
        return {name: output[:rows] for name, output in outputs.items()}

    return serve


def embedding_names(trained_model: TrainedModel) -> list[str]:
    """Returns "embedding" and the output name of each aligned branch's vector."""
    branches = trained_model.preprocessor.branches
    aligned = _aligned(trained_model)
    names = [name for name in aligned if name in branches]
    return [schema.EMBEDDING, *map(schema.embedding_name, names)]


def is_label_aligned(trained_model: TrainedModel) -> bool:
    """Whether texts of the label have vectors near those of branches."""
    branches = trained_model.preprocessor.branches
    return not branches.keys() >= set(_aligned(trained_model))


def _aligned(trained_model) -> list[str]:
    branches, config = trained_model.preprocessor.branches, trained_model.config
    return config.loss.aligned(branch_types(branches.values(), config))


def prediction_names(config: Config, state: PreprocessingState) -> tuple[str, ...]:
    """Returns the names of the outputs of the signature serving_default."""
    if state.task == GENERATE:
        n_best = (schema.N_BEST, schema.N_BEST_SCORE) if config.export.n_best else ()
        return schema.GENERATED, schema.SCORE, *n_best, schema.STATUS
    if state.task == REGRESSION:
        return schema.VALUE, schema.STATUS
    return schema.PROBABILITIES, schema.LABEL, schema.SCORE, schema.STATUS


def _describe(result, trained_model) -> Outputs:
    """Returns the predictions that follow from the outputs of the head."""
    state = trained_model.state
    if state.task == GENERATE:
        return generate_texts(trained_model, result)
    values = predicted_values(result[schema.PROBABILITIES], state)
    if state.task == REGRESSION:
        return {schema.VALUE: values[:, 0]}
    return {
        schema.PROBABILITIES: values,
        schema.LABEL: _label(values, list(state.classes), state.task),
        schema.SCORE: tf.reduce_max(values, axis=1),
    }


def generate_texts(trained_model: TrainedModel, result: Outputs) -> Outputs:
    """Searches for the texts of B rows from the outputs of the head.

    Outputs: "text" (B,) string, "score" (B,) float32, and with `export.n_best` "n_best"
    (B, n) string and "n_best_score" (B, n) float32, the best first. Where there are
    fewer texts, the rest are empty, with a score of -1e9.
    """
    config, tokenizer = trained_model.config, trained_model.preprocessor.tokenizer
    decoder = get_decoder(trained_model.model)
    tokens, scores = search_texts(decoder, result, config.generate)
    size = max(1, config.export.n_best)
    tokens, scores = tokens[:, :size], scores[:, :size]
    texts = tokenizer.texts(tf.reshape(tokens, [-1, tokens.shape[2]]))
    exists = scores > IMPOSSIBLE / 2
    texts = tf.where(exists, tf.reshape(texts, [-1, size]), "")
    scores = tf.where(exists, scores, IMPOSSIBLE)
    outputs = {schema.GENERATED: texts[:, 0], schema.SCORE: scores[:, 0]}
    if config.export.n_best:
        outputs |= {schema.N_BEST: texts, schema.N_BEST_SCORE: scores}
    return outputs


def build_embed_text(trained_model: TrainedModel) -> Callable[[tf.Tensor], Outputs]:
    """Builds the function from (B,) texts to "embedding" (B, W), their aligned vectors.

    Texts are in the form of the label. One without a token has a vector of zeros.
    """
    tokenizer = trained_model.preprocessor.tokenizer
    encoder = get_label_encoder(trained_model.model)

    def embed_text(texts: tf.Tensor) -> Outputs:
        is_valid = is_utf8(texts) & (tf.strings.strip(texts) != "")
        ids = tokenizer.ids(tf.where(is_valid, texts, ""))[:, :-1]
        ids = tf.where(is_valid[:, None], ids, PADDING)
        return {schema.EMBEDDING: encoder({schema.TOKENS: ids}, training=False)}

    return embed_text


def _fill_empty(values):
    absent = tf.constant([""] if values.dtype == tf.string else [float("nan")])
    return tf.cond(tf.size(values) > 0, lambda: values, lambda: absent)


def _label(probabilities, classes, task):
    names = tf.constant(classes)
    if task != MULTILABEL:
        return tf.gather(names, tf.argmax(probabilities, axis=1))
    parts = tf.where(probabilities >= 0.5, schema.LABEL_SEPARATOR + names, "")
    labels = tf.strings.reduce_join(parts, axis=1)
    return tf.strings.regex_replace(labels, rf"^\{schema.LABEL_SEPARATOR}", "")


class Predictor:
    """The serving function, called with batches of Python values.

    Example:
        predictor = Predictor(load_trained(folder))
        result = predictor({"text": [b"warm fire"], "image": [png], "audio": [b""]})
        result["label"], result["probabilities"]
    """

    def __init__(self, trained_model: TrainedModel):
        preprocessor = trained_model.preprocessor
        self.branches, self.columns = preprocessor.branches, preprocessor.columns
        self._trained_model = trained_model  # keeps the graph's variables alive
        spec = preprocessor.specs
        self._serve = tf.function(build_serve(trained_model), [spec], autograph=False)

    def __call__(self, data: dict[str, list[bytes | float]]) -> dict[str, np.ndarray]:
        """Predicts one batch: values by column to arrays by output."""
        tensors = self._trained_model.preprocessor.tensors(data)
        return {name: out.numpy() for name, out in self._serve(tensors).items()}
