"""Time of each encoder in the served graph, from raw bytes to the prediction.

    python -m benchmarks.encoders [--text.weights DIR] [--encoders resnet50,minilm]

A model of one column with the encoder, whose weights are random but for texts, is
trained for an epoch and exported, which compares it with the export loaded by
TensorFlow's C++ loader. Images are JPEGs of 500 x 375 pixels, voices a second long.
"""

import argparse
import contextlib
import io
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.tables import write_table
from mmkeras.cli import run_program
from mmkeras.config import (
    AudioConfig,
    Config,
    EvaluateConfig,
    ExportConfig,
    ImageConfig,
    TableConfig,
    TextConfig,
)
from mmkeras.config.presets import pretrained_small
from mmkeras.cost import BATCH, measure

ROWS = 240
_IMAGE = (
    "efficientnet_lite0 mobilenetv3 efficientnetb0 efficientnetv2 resnet50 densenet121 "
    "convnexttiny convnextbase"
).split()
MINILM, AUDIO = "minilm", ("log_mel_stats", "mfcc_stats", "cnn")


def settings(name: str, weights: str) -> Config:
    """Returns the settings of a model with one encoder."""
    config = pretrained_small()
    config = replace(config, text=TextConfig(), epochs=1)
    # Networks of random weights amplify differences of rounding.
    export = ExportConfig(tolerance=1e-3)
    config = replace(config, evaluate=EvaluateConfig(noise_rows=0), export=export)
    if name in _IMAGE:
        image = ImageConfig(encoder=name, weights="none", frozen="yes")
        table = TableConfig(modalities="image")
        return replace(config, image=image, table=table)
    if name == MINILM:
        text = replace(pretrained_small().text, weights=weights)
        return replace(config, text=text, table=TableConfig(modalities="text"))
    audio = AudioConfig(encoder=name, clip_s=1.0)
    return replace(config, audio=audio, table=TableConfig(modalities="audio"))


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text.weights", dest="weights", default="")
    parser.add_argument("--encoders", default="")
    arguments = parser.parse_args(argv)
    names = [*_IMAGE, *([MINILM] if arguments.weights else []), *AUDIO]
    if arguments.encoders:
        names = arguments.encoders.split(",")
    print(f"| encoder | parameters | ms for a row | ms per row of {BATCH} |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        table = write_table(Path(folder) / "rows", ROWS)
        for name in names:
            cost = _measure(Path(folder), table, settings(name, arguments.weights))
            cells = [f"{cost['parameters']:,}", f"{cost['row_ms']:.1f}"]
            cells.append(f"{cost['row_of_batch_ms']:.1f}")
            print(f"| `{name}` | {' | '.join(cells)} |", flush=True)


def _measure(folder, table, config) -> dict[str, float]:
    from mmkeras.training.steps import train

    cache = replace(config.table, cache_dir=str(folder / "cache"))
    with (
        tempfile.TemporaryDirectory(dir=folder) as run,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        train(Path(run), replace(config, table=cache), table)
        return measure(Path(run))


if __name__ == "__main__":
    run_program(main)
