import keras
import numpy as np
import pytest

from mmkeras.config import FusionConfig
from mmkeras.models.fusion import fuse_tokens
from mmkeras.models.fusion.memory import Memory
from tests.models.fusion.fusion_models import TOKENS, branch_inputs, presence

KINDS = ("concat", "cross_attention")
UNITS = 5


def build(kind, **settings):
    """Builds a model of tokens and masks of three branches, and the presence."""
    keras.utils.set_random_seed(1)
    small = {"width": 8, "units": UNITS, "heads": 2, "blocks": 2, "dropout": 0.5}
    small |= settings
    config = FusionConfig(kind=kind, **small)
    pairs = [
        (keras.Input(shape), keras.Input(shape[:1], dtype="bool")) for shape in TOKENS
    ]
    inputs = [tensor for pair in pairs for tensor in pair]
    present = keras.Input((3,))
    return keras.Model([*inputs, present], fuse_tokens(pairs, present, config))


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return build(request.param)


def run(model, inputs, present=None):
    present = presence() if present is None else present
    return Memory(*map(np.array, model([*inputs, present])))


def test_the_memory_has_the_tokens_of_all_branches_and_their_masks(model):
    inputs = branch_inputs("mult")
    memory, mask, embedding = run(model, inputs)
    assert memory.shape == (6, 4 + 6 + 2, 8) and embedding.shape == (6, UNITS)
    np.testing.assert_array_equal(mask, np.concatenate(inputs[1::2], axis=1))


def test_padding_changes_neither_tokens_nor_the_embedding(model):
    inputs = branch_inputs("mult")
    before, mask, embedding = run(model, inputs)
    for tokens, valid in zip(inputs[::2], inputs[1::2], strict=True):
        tokens[~valid] = 100.0
    after, _, new_embedding = run(model, inputs)
    np.testing.assert_allclose(after[mask], before[mask], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(new_embedding, embedding, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("branch", range(3))
def test_an_absent_branch_cannot_change_the_memory(model, branch):
    inputs, present = branch_inputs("mult"), presence()
    present[:, branch] = 0
    before, mask, embedding = run(model, inputs, present)
    inputs[2 * branch] = inputs[2 * branch] + 5
    inputs[2 * branch + 1] = ~inputs[2 * branch + 1]
    after, after_mask, new_embedding = run(model, inputs, present)
    np.testing.assert_array_equal(after_mask, mask)
    np.testing.assert_allclose(new_embedding, embedding, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(after[mask], before[mask], rtol=1e-5, atol=1e-5)
    assert mask.any(axis=1).all() and np.isfinite(before[mask]).all()
    present[:, branch] = 1
    changed = run(model, inputs, present)
    assert not np.allclose(changed.tokens, after, atol=1e-3)
    assert not np.allclose(changed.embedding, embedding, atol=1e-3)


def test_a_row_without_any_branch_has_a_finite_memory(model):
    memory, mask, embedding = run(model, branch_inputs("mult"), 0 * presence())
    assert mask.any(axis=1).all() and np.isfinite(memory).all()
    np.testing.assert_allclose(embedding, embedding[[0] * 6], rtol=1e-5)
    np.testing.assert_allclose(
        memory[mask], np.tile(memory[0][mask[0]], (6, 1)), rtol=1e-5
    )


def test_tokens_attend_to_those_of_other_branches_with_cross_attention_only():
    for kind in KINDS:
        model, inputs = build(kind), branch_inputs("mult")
        before = run(model, inputs).tokens
        inputs[2] = inputs[2] + 1
        after = run(model, inputs).tokens
        assert np.abs(after - before)[:, 4:9].max() > 1e-3
        other = np.abs(after - before)[:, :3].max()
        assert (other > 1e-3) == (kind == "cross_attention")


def test_equal_tokens_differ_by_their_places():
    model, inputs = build("concat"), branch_inputs("mult")
    inputs[0][:] = 1
    memory = run(model, inputs).tokens
    assert np.abs(memory[:, 0] - memory[:, 1]).max() > 1e-3


@pytest.mark.parametrize(
    ("kind", "parameters"), [("concat", 428), ("cross_attention", 2172)]
)
def test_the_number_of_parameters_is_pinned(kind, parameters):
    assert build(kind).count_params() == parameters


def test_a_memory_of_one_branch_is_saved_and_loaded(tmp_path):
    tokens, mask = keras.Input((4, 3)), keras.Input((4,), dtype="bool")
    present = keras.Input((1,))
    config = FusionConfig(width=8)
    outputs = fuse_tokens([(tokens, mask)], present, config)
    model = keras.Model([tokens, mask, present], outputs)
    inputs = [*branch_inputs("mult")[:2], presence(branches=1)]
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras", compile=False)
    for one, other in zip(loaded(inputs), model(inputs), strict=True):
        np.testing.assert_array_equal(one, other)
