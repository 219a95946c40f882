"""Training throughput of the reference model on JAX, compared with ResNet50 in torch.

    KERAS_BACKEND=jax python -m benchmarks.gpu_step [--batch 256] [--size-px 224]

The reference model (trained ResNet50, text and audio branches, fusion) under jit with
mixed bfloat16, against ResNet50 under torch.compile with bfloat16 autocast and
channels-last, in one process on a GPU. Needs keras and jax, not TensorFlow; without
torchvision there is no comparison.
"""

import argparse
import importlib.util
import os
import time

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "jax")

STEPS, CLASSES = 20, 10


def keras_rate(batch: int, size_px: int) -> float:
    """Returns the images per second of `train_on_batch` on data in memory."""
    import keras

    from mmkeras.config import Config, FusionConfig, ImageConfig
    from mmkeras.modalities.preprocessing_state import PreprocessingState
    from mmkeras.models.model import build_model

    keras.config.set_dtype_policy("mixed_bfloat16")
    state = PreprocessingState(
        branches={name: (name,) for name in ("text", "image", "audio")},
        columns={"text": {"width": 512}, "image": {}, "audio": {"width": 128}},
        task="multiclass",
        classes=tuple(map(str, range(CLASSES))),
        class_rows=(1,) * CLASSES,
    )
    config = Config(
        image=ImageConfig(weights="none", size_px=size_px), fusion=FusionConfig()
    )
    model = build_model(config, state)
    model.compile("sgd", "categorical_crossentropy", jit_compile=True)
    rng = np.random.default_rng(0)
    inputs = {
        "image": rng.integers(0, 256, (batch, size_px, size_px, 3), np.uint8),
        "text": rng.random((batch, 512), np.float32),
        "audio": rng.random((batch, 128), np.float32),
        "present": np.ones((batch, 3), np.float32),
    }
    targets = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, batch)]
    return _rate(lambda: model.train_on_batch(inputs, targets), batch)


def torch_rate(batch: int, size_px: int) -> float:
    """Returns the images per second of torchvision's ResNet50."""
    import torch
    import torchvision

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = torchvision.models.resnet50(num_classes=CLASSES).to(device)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    pixels = torch.randint(0, 256, (batch, 3, size_px, size_px), dtype=torch.uint8)
    pixels = pixels.to(memory_format=torch.channels_last)
    targets = torch.randint(0, CLASSES, (batch,))

    @torch.compile
    def forward(x, y):
        with torch.autocast(device, torch.bfloat16):
            return torch.nn.functional.cross_entropy(model(x.float() / 255), y)

    def step():
        optimizer.zero_grad()
        forward(pixels.to(device), targets.to(device)).backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return _rate(step, batch)


def _rate(step, batch: int) -> float:
    for _ in range(3):
        step()
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    return STEPS * batch / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--size-px", type=int, default=224)
    arguments = parser.parse_args()
    work = (arguments.batch, arguments.size_px)
    ours = keras_rate(*work)
    print(f"reference model, Keras on {os.environ['KERAS_BACKEND']}: {ours:,.0f} img/s")
    if importlib.util.find_spec("torchvision") is None:
        print("torchvision is not installed: no comparison.")
        return
    other = torch_rate(*work)
    print(
        f"ResNet50 alone, torch.compile: {other:,.0f} img/s; ratio {ours / other:.2f}"
    )


if __name__ == "__main__":
    main()
