"""Input features of the linear baseline, read from a dataset."""

import numpy as np

from mmkeras.data.dataset import Dataset
from mmkeras.data.input_pipeline import Batches
from mmkeras.export.inference import TrainedModel
from mmkeras.models.tasks import predicted_values
from mmkeras.schema import PRESENT


def read_baseline_features(
    trained_model: TrainedModel, dataset: Dataset, split: str, rows: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Reads the first rows of a split, up to a batch more than `rows`.

    Returns:
        Blocks of features as name -> (N, D): `linear_features` of each branch, zeros
        where it is absent, and which are present. Targets are (N, C), in regression
        (N, 1).
    """
    preprocessor = trained_model.preprocessor
    batches = Batches(dataset=dataset, preprocessor=preprocessor, split=split)
    parts, targets, size = [], [], 0
    for inputs, target, _ in batches.eval_batches():
        parts.append(_features(inputs, trained_model))
        targets.append(target.numpy())
        size += len(target)
        if size >= rows:
            break
    targets = predicted_values(np.concatenate(targets), trained_model.state)
    targets = np.asarray(targets)
    return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}, targets


def _features(inputs, trained_model) -> dict[str, np.ndarray]:
    """Returns (B, D) blocks of a batch."""
    branches, state = trained_model.preprocessor.branches, trained_model.state
    blocks, present = {}, inputs[PRESENT].numpy()
    for i, (name, branch) in enumerate(branches.items()):
        x = branch.linear_features(inputs[branch.key].numpy(), state.columns)
        blocks[name] = x * present[:, i : i + 1]
    return {**blocks, PRESENT: present}
