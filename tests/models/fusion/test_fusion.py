import keras
import numpy as np
import pytest

from mmkeras.config import FusionConfig
from mmkeras.models.fusion import fuse
from tests.models.fusion.fusion_models import (
    KINDS,
    TOKEN_KINDS,
    branch_inputs,
    build_fusion,
    presence,
    shared_fusion,
)


@pytest.mark.parametrize("kind", KINDS)
def test_an_absent_branch_cannot_change_the_result(kind):
    model, inputs, present = shared_fusion(kind), branch_inputs(kind), presence()
    tokens = kind in TOKEN_KINDS
    branch = inputs[2 if tokens else 1]
    complete = np.array(model([*inputs, present]))
    present[:3, 1] = 0
    before = np.array(model([*inputs, present]))
    for content in (0.0, 1e30, np.nan):
        branch[:3] = content
        if tokens:
            inputs[3][:3] = False
        np.testing.assert_array_equal(model([*inputs, present]), before)
    # The other rows depend on their own branches only.
    np.testing.assert_allclose(before[3:], complete[3:], rtol=1e-5, atol=1e-6)
    branch[3:] += 1
    after = np.array(model([*inputs, present]))
    assert not np.allclose(after[3:], before[3:], atol=1e-4)


@pytest.mark.parametrize("with_presence", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_one_and_two_branches_are_fused_as_well(kind, with_presence):
    branches = 1 if with_presence else 2
    model = build_fusion(kind, branches, presence=with_presence)
    inputs = branch_inputs(kind)[: branches * (2 if kind in TOKEN_KINDS else 1)]
    present = presence(branches=branches)
    result = np.array(model([*inputs, present]))
    assert result.shape == (6, model.output_shape[1]) and np.isfinite(result).all()
    assert np.ptp(result, axis=0).any()
    if not with_presence:
        np.testing.assert_array_equal(model([*inputs, 0 * present]), result)
        assert not any("absence" in weight.path for weight in model.weights)


def test_a_presence_of_the_wrong_width_is_refused():
    with pytest.raises(ValueError, match="one column per branch: 1 branches"):
        fuse([keras.Input((3,))], keras.Input((2,)), FusionConfig())
