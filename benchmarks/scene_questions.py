"""Questions about the generated scenes, by the image encoder of a model of captions.

    python -m mmkeras.train --task generate --output runs/captions
    python -m benchmarks.scene_questions runs/captions runs/questions

The second program trains on questions.csv, which is beside the captions in the cache.
It prints the exact match of all questions, of each kind, and with a branch hidden,
beside the best answer without the image: the most frequent one of each question.
"""

import argparse
import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import mmkeras
from mmkeras.cli import run_program
from mmkeras.data.scene_dataset import QUESTIONS_FILE, default_folder, make_dataset
from mmkeras.data.scene_questions import ANSWERS
from mmkeras.models.model import backbones

# An answer depends on the place that its question means, which training finds late,
# and not at all with the dropout and the learning rate of the preset.
SETTINGS = {
    "train.learning_rate": 0.0005,
    "fusion.dropout": 0.0,
    "fusion.modality_dropout": 0.0,
    "generate.dropout": 0.0,
    "generate.heads": 8,
}


def measure_guesses(rows: Sequence[Mapping[str, str]]) -> float:
    """Returns the share of test rows that their text alone would answer.

    The answer is the most frequent label of the training rows with the same text; a
    text without such rows counts as wrong.
    """
    answers: dict[str, Counter] = {}
    for row in rows:
        if row["split"] == "train":
            answers.setdefault(row["text"], Counter())[row["label"]] += 1
    best = {text: count.most_common(1)[0][0] for text, count in answers.items()}
    test = [row for row in rows if row["split"] == "test"]
    return sum(best.get(row["text"]) == row["label"] for row in test) / len(test)


def match_by_kind(rows: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """Returns the share of right answers by kind of question.

    Each row has a "label", a "predicted" answer and an "id" such as 0012-1, whose last
    number counts from 1 the kinds of the first object, then those of the second one.
    """
    kinds = list(ANSWERS)
    right: dict[str, list[bool]] = {kind: [] for kind in kinds}
    for row in rows:
        kind = kinds[(int(row["id"].rpartition("-")[2]) - 1) % len(kinds)]
        right[kind].append(row["predicted"] == row["label"])
    return {kind: sum(x) / len(x) for kind, x in right.items() if x}


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("captions", help="run folder of a model of the captions")
    parser.add_argument("output", type=Path)
    parser.add_argument("--epochs", type=int, default=12)
    parsed = parser.parse_args(argv)
    table = make_dataset(default_folder()) / QUESTIONS_FILE
    encoder = backbones(mmkeras.load(parsed.captions).model)["image"]
    generator = mmkeras.MultimodalGenerator(
        path=parsed.output,
        settings={**SETTINGS, "epochs": parsed.epochs},
        encoders={"image": encoder},
    )
    generator.fit(table, label="label", verbose=True)
    metrics = json.loads((parsed.output / "metrics.json").read_text(encoding="utf-8"))
    kinds = match_by_kind(_read(parsed.output / "predictions.csv"))
    print("Exact match:", metrics["metrics"]["exact_match"])
    print("By kind:", {kind: round(value, 3) for kind, value in kinds.items()})
    print("Guessed from the question alone:", round(measure_guesses(_read(table)), 3))
    print("Modalities:", json.dumps(metrics["modalities"]))
    print("Shapley values:", json.dumps(metrics.get("shapley")))


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    run_program(main)
