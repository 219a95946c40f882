"""Signatures of tf.Examples for TF Serving's Classify and Regress, and of texts."""

from collections.abc import Callable, Mapping

import tensorflow as tf

from mmkeras import schema
from mmkeras.export.inference import TrainedModel, build_embed_text
from mmkeras.modalities.preprocessing_state import REGRESSION
from mmkeras.modalities.preprocessor import column_feature

Outputs = dict[str, tf.Tensor]


def example_signature(task: str) -> str:
    """Returns the name of the signature that takes tf.Examples."""
    return schema.REGRESS if task == REGRESSION else schema.CLASSIFY


def build_example_signature(serve: Callable, trained_model: TrainedModel):
    """Builds the signature `example_signature`: (B,) tf.Examples to its outputs.

    classify gives class names and scores (B, C) of all classes, and of a generator its
    best texts; regress gives values (B, 1).
    """
    is_regression = trained_model.state.task == REGRESSION
    describe = _values if is_regression else _classes(trained_model)
    features = {
        name: column_feature(column)
        for name, column in trained_model.preprocessor.columns.items()
    }

    def predict(inputs):
        examples = tf.ensure_shape(inputs, [None])
        return describe(serve(tf.io.parse_example(examples, features)))

    name = schema.REGRESS_INPUT if is_regression else schema.CLASSIFY_INPUT
    spec = tf.TensorSpec([None], tf.string, name=name)
    return tf.function(predict, autograph=False).get_concrete_function(inputs=spec)


def _values(outputs: Outputs) -> Outputs:
    return {schema.REGRESS_OUTPUT: outputs[schema.VALUE][:, None]}


def _classes(trained_model) -> Callable[[Outputs], Outputs]:
    classes = list(trained_model.state.classes)

    def describe(outputs):
        if classes:
            scores = outputs[schema.PROBABILITIES]
            names = tf.tile([classes], [tf.shape(scores)[0], 1])
        else:
            names, scores = best_texts(outputs)
        return {schema.CLASSIFY_CLASSES: names, schema.CLASSIFY_SCORES: scores}

    return describe


def best_texts(outputs: Mapping) -> tuple:
    """Returns the best texts (B, N) of the outputs of a generator, and their scores."""
    if schema.N_BEST in outputs:
        return outputs[schema.N_BEST], outputs[schema.N_BEST_SCORE]
    return outputs[schema.GENERATED][:, None], outputs[schema.SCORE][:, None]


def build_embed_text_signature(trained_model: TrainedModel):
    """Builds the signature from (B,) texts to their aligned vectors."""
    embed_text = build_embed_text(trained_model)

    def embed(text):
        return embed_text(tf.ensure_shape(text, [None]))

    spec = tf.TensorSpec([None], tf.string, name=schema.EMBED_TEXT_INPUT)
    return tf.function(embed, autograph=False).get_concrete_function(text=spec)
