"""Input features of the linear baseline, read from a dataset."""

import numpy as np
import tensorflow as tf

from mmkeras.data.dataset import Dataset
from mmkeras.data.input_pipeline import Batches
from mmkeras.evaluation.baselines import count_tokens, summarize_frames
from mmkeras.export.inference import TrainedModel
from mmkeras.modalities.preprocessing_state import RESERVED
from mmkeras.models.tasks import predicted_values
from mmkeras.schema import AUDIO, IMAGE, PRESENT, TEXT

_IMAGE_PX = 16


def read_baseline_features(
    trained_model: TrainedModel, dataset: Dataset, split: str, rows: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Reads the first rows of a split, up to a batch more than `rows`.

    Returns:
        Blocks of features as name -> (N, D): images of 16 px, counts of tokens, means
        of frames, and which modalities are present; missing ones are zeros. Targets
        are (N, C), in regression (N, 1).
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
    config, state = trained_model.config, trained_model.state
    blocks = {name: x.numpy() for name, x in inputs.items()}
    if IMAGE in blocks:
        pixels = tf.image.resize(inputs[IMAGE], [_IMAGE_PX, _IMAGE_PX], method="area")
        blocks[IMAGE] = pixels.numpy().reshape(len(pixels), -1)
    if TEXT in blocks and config.text.is_sequence:
        tokens = RESERVED - 1 + len(state.vocabulary)  # all but padding
        blocks[TEXT] = count_tokens(blocks[TEXT], tokens)
    if AUDIO in blocks and config.audio.is_sequence:
        blocks[AUDIO] = summarize_frames(blocks[AUDIO])
    for i, m in enumerate(state.modalities):
        blocks[m] = blocks[m] * blocks[PRESENT][:, i : i + 1]
    return blocks
