import io
import json

import keras
import numpy as np
import pytest
from PIL import Image

from mmkeras import cost, train
from mmkeras.errors import UserError
from mmkeras.estimators.classifier import MultimodalClassifier
from mmkeras.evaluate import evaluate_table
from mmkeras.explain import explain
from mmkeras.export.inference import Predictor, load_trained
from mmkeras.export.saved_model_session import load_saved_model
from mmkeras.retrieve import retrieve
from tests import table_factory
from tests.clip_preset import SIZE_PX, write_clip
from tests.program_harness import output_of

CLASSES = ("dog", "cat", "bird")
RNG = np.random.default_rng(3)
PIXELS = RNG.integers(0, 256, (4, SIZE_PX, SIZE_PX, 3), np.uint8)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip"))


def flags(clip, folder, *more):
    argv = ["--preset", "zero-shot", "--image.weights", clip.folder]
    return [*argv, "--image.size_px", SIZE_PX, "--output", folder, *more]


def build(clip, folder, *more):
    return output_of(train.main, flags(clip, folder, *more))


@pytest.fixture(scope="module")
def run(clip, tmp_path_factory):
    """Folder and output of a run without rows."""
    folder = tmp_path_factory.mktemp("run") / "run"
    return folder, build(clip, folder, "--classes", ",".join(CLASSES))


def write_rows(folder, labels=("dog", "cat")):
    """Writes forty rows of images with labels."""
    rows = [
        {"photo": png(RNG.integers(0, 256, PIXELS[0].shape, np.uint8)), "label": label}
        for label in (labels * 20)[:40]
    ]
    for row, split in zip(rows, table_factory.FORTY, strict=True):
        row["split"] = split
    return table_factory.write_table(folder / "data.csv", rows)


def test_the_probabilities_are_those_of_clip(clip, run):
    expected = clip.probabilities(PIXELS, [f"a photo of a {name}" for name in CLASSES])
    assert np.ptp(expected, axis=1).min() > 0.05
    images = [png(pixels) for pixels in PIXELS]
    result = Predictor(load_trained(run[0]))({"image": images})
    np.testing.assert_allclose(result["probabilities"], expected, atol=1e-5)
    labels = [CLASSES[i].encode() for i in expected.argmax(axis=1)]
    assert list(result["label"]) == labels
    np.testing.assert_allclose(np.linalg.norm(result["embedding"], axis=1), 1, 1e-5)


def test_a_missing_or_broken_image_gives_equal_probabilities(run):
    result = Predictor(load_trained(run[0]))({"image": [b"", b"xx"]})
    assert list(result["status"]) == [b"image absent", b"image unreadable"]
    np.testing.assert_allclose(result["probabilities"], np.full((2, 3), 1 / 3), 1e-6)


def test_the_run_folder_has_a_verified_export_with_all_signatures(run):
    folder, out = run
    assert "Export: verified" in out and "Metrics" not in out and "Report" not in out
    labels = folder / "export" / "1" / "assets.extra" / "labels.txt"
    assert tuple(labels.read_text().split()) == CLASSES
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["finished"] and manifest["data"] == "class names"
    with load_saved_model(folder / "export" / "1") as call:
        rows = {"image": [png(PIXELS[0])]}
        served = call("serving_default", rows)
        embedding = call("embed", rows)["embedding"]
        names = call("columns", {"inputs": [b""]})["name"]
    result = Predictor(load_trained(folder))(rows)
    np.testing.assert_allclose(served["probabilities"], result["probabilities"], 1e-5)
    np.testing.assert_allclose(embedding, result["embedding"], atol=1e-5)
    assert names.tolist() == [[b"image"]]


def test_a_finished_run_is_kept_and_other_classes_are_refused(clip, run):
    folder, _ = run
    again = build(clip, folder, "--classes", ",".join(CLASSES))
    assert "is finished already; nothing was trained" in again
    with pytest.raises(UserError, match="classes=dog,cat,bird.*classes=cat,dog"):
        build(clip, folder, "--classes", "cat,dog")


def test_the_model_is_evaluated_and_explained_on_a_table(run, tmp_path):
    table = write_rows(tmp_path / "data", labels=("dog", "bird"))
    text = table.read_text().replace("photo,label", "image,label")
    table.write_text(text)
    metrics = evaluate_table(run[0], table, tmp_path / "new", "test", "fail")
    assert metrics["rows"] == 8 and metrics["classes"] == list(CLASSES)
    assert metrics["baselines"]["majority"]["log_loss"]["value"] == pytest.approx(
        np.log(3)
    )
    assert explain(run[0], table, tmp_path / "explained", rows=2) == 2


def test_rows_with_labels_are_evaluated_without_training(clip, tmp_path):
    table, folder = write_rows(tmp_path / "data"), tmp_path / "run"
    more = ("--data", table, "--prompt", "the {}", "--table.cache_dir", tmp_path)
    out = build(clip, folder, *more)
    assert "Metrics on 8 rows" in out and "Calibration" not in out
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["classes"] == ["cat", "dog"] and metrics["temperature"] == 1
    assert "logistic_regression" in metrics["baselines"]
    assert not (folder / "checkpoints").exists()
    result = Predictor(load_trained(folder))({"photo": [png(x) for x in PIXELS]})
    expected = clip.probabilities(PIXELS, ["the cat", "the dog"])
    np.testing.assert_allclose(result["probabilities"], expected, atol=1e-5)
    with pytest.raises(
        UserError, match="labels that are not in classes='cat,cow': 'dog'"
    ):
        build(clip, tmp_path / "other", *more, "--classes", "cat,cow")


@pytest.mark.slow
def test_more_classes_than_labels_can_be_named(clip, tmp_path):
    table = write_rows(tmp_path / "data")
    settings = {"classes": "cat,dog,bird", "table.cache_dir": str(tmp_path / "cache")}
    settings |= {"image.weights": str(clip.folder), "image.size_px": SIZE_PX}
    classifier = MultimodalClassifier("zero-shot", settings=settings)
    classifier.fit(str(table), "label")
    assert list(classifier.classes_) == ["bird", "cat", "dog"]  # as scikit-learn does
    pixels = {"photo": [png(image) for image in PIXELS]}
    names = ["bird", "cat", "dog"]
    expected = clip.probabilities(PIXELS, [f"a photo of a {name}" for name in names])
    np.testing.assert_allclose(classifier.predict_proba(pixels), expected, atol=1e-5)


def test_rows_with_several_labels_are_refused(clip, tmp_path):
    table = write_rows(tmp_path / "data", labels=("dog", "cat|dog"))
    more = ("--data", table, "--table.cache_dir", tmp_path)
    with pytest.raises(UserError, match="one class per row"):
        build(clip, tmp_path / "run", *more)


@pytest.mark.slow
def test_the_size_of_the_images_is_compared_with_the_preset(clip, tmp_path):
    size = ("--image.size_px", SIZE_PX + 16, "--classes", "cat,dog")
    out = build(clip, tmp_path / "run", *size)
    assert f"Avoid it by --image.size_px {SIZE_PX}." in out
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert model.output_shape == (None, 1)  # two classes


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "needs the names of the classes: give --classes NAME,NAME, or --data"),
        (("--classes", "cat,dog", "--folds", "3"), "--folds trains"),
        (("--classes", "cat,dog", "--folds", "3", "--ensemble"), "trains nothing"),
        (("--classes", "cat,dog", "--image.weights", "."), "without config.json"),
    ],
)
def test_a_mistake_is_refused(more, message, clip, tmp_path):
    with pytest.raises(UserError, match=message):
        build(clip, tmp_path / "run", *more)


def test_images_are_found_by_a_text_and_by_an_image(clip, run, tmp_path):
    path = tmp_path / "images.csv"
    names = [f"{i}.png" for i in range(len(PIXELS))]
    for name, pixels in zip(names, PIXELS, strict=True):
        (tmp_path / name).write_bytes(png(pixels))
    path.write_text("\n".join(["image", *names]))
    results = retrieve(run[0], path, "text", "a dog", None, top=9)
    expected = clip.cosines(PIXELS, ["a dog"])[:, 0]
    assert [x["content"] for x in results] == [names[i] for i in np.argsort(-expected)]
    cosines = [x["cosine"] for x in results]
    np.testing.assert_allclose(cosines, np.sort(expected)[::-1], atol=1e-5)
    (first, *_) = retrieve(run[0], path, "image", str(tmp_path / "2.png"), None, 1)
    assert first["content"] == "2.png" and first["cosine"] == pytest.approx(1)
    with pytest.raises(UserError, match="'image' with a text or with an image"):
        retrieve(run[0], path, "audio", "a.wav", None, 1)


def test_a_run_without_rows_has_none_to_time(run):
    with pytest.raises(UserError, match="has no table"):
        cost.measure(run[0])
