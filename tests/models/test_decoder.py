import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from mmkeras.config.generate import GenerateConfig
from mmkeras.models.decoder import build_decoder, select_decoder_inputs
from mmkeras.models.token_losses import TokenCrossEntropy

DECODERS = ("transformer", "lstm_attention")
VOCAB, MAX_TOKENS = 11, 6
WIDTHS = {"memory_width": 5, "embedding_width": 3}
RNG = np.random.default_rng(0)
INPUTS = {
    "memory": RNG.normal(size=(3, 4, WIDTHS["memory_width"])).astype("float32"),
    "memory_mask": np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]], bool),
    "embedding": RNG.normal(size=(3, WIDTHS["embedding_width"])).astype("float32"),
    "tokens": RNG.integers(1, VOCAB, (3, MAX_TOKENS + 1), dtype=np.int32),
}


def build(decoder, **settings):
    keras.utils.set_random_seed(1)
    small = {"width": 8, "heads": 2, "max_tokens": MAX_TOKENS}
    config = GenerateConfig(decoder=decoder, **{**small, **settings})
    return build_decoder(config, vocab_size=VOCAB, **WIDTHS)


@pytest.fixture(scope="module", params=DECODERS)
def decoder(request):
    model = build(request.param)
    for weight in model.weights:  # no zeros, and a visible effect of each part
        weight.assign(weight + RNG.normal(size=weight.shape) / 4)
    return model


def run(model, **changes):
    return {k: np.array(v) for k, v in model({**INPUTS, **changes}).items()}


def test_outputs_are_logits_and_attention_of_each_token(decoder):
    outputs = run(decoder)
    assert {name: x.shape for name, x in outputs.items()} == {
        "logits": (3, 7, VOCAB),
        "attention": (3, 7, 4),
    }
    assert {name: x.shape for name, x in decoder.output.items()} == {
        "logits": (None, None, VOCAB),
        "attention": (None, None, None),
    }
    assert all(x.dtype == np.float32 for x in outputs.values())
    assert np.isfinite(outputs["logits"]).all()


@pytest.mark.parametrize(
    ("name", "parameters"), [("transformer", 2619), ("lstm_attention", 1332)]
)
def test_the_number_of_parameters_is_pinned(name, parameters):
    assert build(name).count_params() == parameters
    assert build(name, scheduled_sampling=0.5).count_params() == parameters


@pytest.mark.parametrize("name", DECODERS)
def test_each_token_of_the_vocabulary_adds_one_row_and_one_bias(name):
    config = GenerateConfig(decoder=name, max_tokens=3, width=8, heads=2)
    sizes = [
        build_decoder(config, vocab_size=size, **WIDTHS).count_params()
        for size in (10, 11)
    ]
    assert sizes[1] - sizes[0] == 8 + 1


def test_a_later_token_has_no_effect_on_earlier_logits(decoder):
    tokens = INPUTS["tokens"].copy()
    tokens[:, 4] = tokens[:, 4] % (VOCAB - 1) + 1
    before, after = run(decoder), run(decoder, tokens=tokens)
    for name in before:
        np.testing.assert_allclose(after[name][:, :4], before[name][:, :4], atol=1e-6)
    changes = np.abs(after["logits"] - before["logits"]).max(axis=2)
    assert changes[:, 4:].min() > 1e-4


def test_a_prefix_has_the_logits_of_the_whole_text(decoder):
    complete = run(decoder)
    for length in (1, 2, 5):
        prefix = run(decoder, tokens=INPUTS["tokens"][:, :length])
        for name in complete:
            np.testing.assert_allclose(
                prefix[name], complete[name][:, :length], rtol=1e-5, atol=1e-5
            )


def test_a_loop_can_call_it_on_prefixes_of_growing_length(decoder):
    memory = {name: tf.constant(x) for name, x in select_decoder_inputs(INPUTS).items()}

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32)])
    def write(tokens):
        def extend(tokens):
            logits = decoder({**memory, "tokens": tokens}, training=False)["logits"]
            tokens = tf.concat(
                [tokens, tf.argmax(logits[:, -1:], 2, output_type=tf.int32)], axis=1
            )
            return (tokens,)

        def is_short(tokens):
            return tf.shape(tokens)[1] <= MAX_TOKENS

        shape = [tf.TensorShape((None, None))]
        return tf.while_loop(is_short, extend, [tokens], shape)[0]

    tokens = expected = INPUTS["tokens"][:, :1]
    while expected.shape[1] <= MAX_TOKENS:
        last = run(decoder, tokens=expected)["logits"][:, -1:]
        expected = np.concatenate([expected, last.argmax(axis=2)], axis=1)
    np.testing.assert_array_equal(write(tokens), expected)


def test_masked_memory_has_no_effect_not_even_a_nan(decoder):
    hidden = ~INPUTS["memory_mask"][..., None]
    changed = np.where(hidden, np.nan, INPUTS["memory"]).astype("float32")
    before, after = run(decoder), run(decoder, memory=changed)
    for name in before:
        np.testing.assert_array_equal(after[name], before[name])
    visible = INPUTS["memory"] + np.arange(WIDTHS["memory_width"], dtype="float32")
    moved = run(decoder, memory=visible)["logits"] - before["logits"]
    assert np.abs(moved)[:2].max(axis=2).min() > 1e-4


def test_the_fused_vector_changes_the_first_token(decoder):
    moved = run(decoder, embedding=INPUTS["embedding"] + 1)
    first = (moved["logits"] - run(decoder)["logits"])[:, 0]
    assert np.abs(first).max(axis=1).min() > 1e-4


def test_masked_places_at_the_end_can_be_cut(decoder):
    both = {name: x[:2] for name, x in INPUTS.items()}
    cut = {name: both[name][:, :2] for name in ("memory", "memory_mask")}
    mask = INPUTS["memory_mask"][:2] & [True, True, False, False]
    short, long = (
        run(decoder, **{**both, **cut}),
        run(decoder, **{**both, "memory_mask": mask}),
    )
    np.testing.assert_allclose(short["logits"], long["logits"], rtol=1e-4, atol=1e-5)


def test_attention_sums_to_one_over_the_unmasked_memory(decoder):
    attention = run(decoder)["attention"]
    np.testing.assert_allclose(attention[:2].sum(axis=2), 1, rtol=1e-5)
    mask = np.broadcast_to(INPUTS["memory_mask"][:, None], attention.shape)
    assert not attention[~mask].any() and (attention[mask] > 0).all()


def test_the_order_of_tokens_matters(decoder):
    tokens = np.int32([[2, 5, 6, 7], [2, 6, 5, 7], [2, 5, 6, 7]])
    same = {name: np.repeat(x[:1], 3, axis=0) for name, x in INPUTS.items()}
    logits = run(decoder, **{**same, "tokens": tokens})["logits"]
    np.testing.assert_allclose(logits[2], logits[0], atol=1e-5)
    assert np.abs(logits[1, -1] - logits[0, -1]).max() > 1e-4


@pytest.mark.parametrize(
    ("name", "probability"), list(itertools.product(DECODERS, (0.0, 0.5)))
)
def test_a_saved_decoder_is_loaded_with_its_weights(name, probability, tmp_path):
    model = build(name, scheduled_sampling=probability)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.count_params() == model.count_params()
    before, after = run(model), run(loaded)
    for output in before:
        np.testing.assert_array_equal(after[output], before[output])


@pytest.mark.parametrize(
    ("name", "probability"), list(itertools.product(DECODERS, (0.0, 0.5)))
)
def test_training_lowers_the_loss_of_rows_with_and_without_memory(name, probability):
    model = build(name, scheduled_sampling=probability, layers=1)
    loss = {"logits": TokenCrossEntropy(), "attention": None}
    model.compile(keras.optimizers.Adam(0.02), loss)
    targets = np.roll(INPUTS["tokens"], -1, axis=1)
    targets[:, -1] = 0
    before = [weight.numpy() for weight in model.trainable_weights]
    first = float(model.train_on_batch(INPUTS, {"logits": targets}))
    for weight, value in zip(model.trainable_weights, before, strict=True):
        assert np.isfinite(weight.numpy()).all(), weight.path
        # A bias of keys shifts all scores of a query alike.
        assert (weight.numpy() != value).any() or "key/bias" in weight.path, weight.path
    for _ in range(30):
        last = float(model.train_on_batch(INPUTS, {"logits": targets}))
    assert last < 0.7 * first


@pytest.mark.parametrize("name", DECODERS)
def test_gradients_are_finite_if_no_row_has_memory(name):
    model = build(name)
    inputs = {**INPUTS, "memory_mask": np.zeros((3, 4), bool)}
    with tf.GradientTape() as tape:
        logits = model(inputs, training=True)["logits"]
        loss = TokenCrossEntropy()(INPUTS["tokens"], logits)
    gradients = tape.gradient(loss, [w.value for w in model.trainable_weights])
    for gradient in gradients:
        if gradient is not None:
            assert np.isfinite(tf.convert_to_tensor(gradient)).all()


def test_scheduled_sampling_reads_predictions_in_training_only():
    plain, sampled = (
        build("transformer", scheduled_sampling=p, dropout=0.0) for p in (0.0, 1.0)
    )
    sampled.set_weights(plain.get_weights())
    expected = run(plain)["logits"]
    np.testing.assert_array_equal(run(sampled)["logits"], expected)
    tokens = INPUTS["tokens"].copy()
    tokens[:, 1:] = expected[:, :-1, 1:].argmax(axis=2) + 1
    logits = sampled(INPUTS, training=True)["logits"]
    np.testing.assert_allclose(logits, run(plain, tokens=tokens)["logits"], atol=1e-5)
    assert (tokens != INPUTS["tokens"]).any()


@pytest.mark.parametrize("name", DECODERS)
def test_logits_are_float32_under_mixed_precision(name):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = build(name)
    finally:
        keras.config.set_dtype_policy("float32")
    outputs = run(model)
    assert {x.dtype.name for x in outputs.values()} == {"float32"}
    assert all(np.isfinite(x).all() for x in outputs.values())


@pytest.mark.parametrize("name", DECODERS)
def test_all_layers_with_weights_have_stable_names(name):
    names = [[w.path for w in build(name).weights] for _ in range(2)]
    assert names[0] == names[1]
