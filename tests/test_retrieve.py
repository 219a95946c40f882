import csv
import json

import numpy as np
import pytest
import tensorflow as tf

from mmkeras.errors import UserError
from mmkeras.export.inference import load_trained
from mmkeras.export.saved_model_session import loaded
from mmkeras.retrieve import main
from tests import table_factory


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return table_factory.aligned_run(tmp_path_factory)


@pytest.fixture(scope="module", autouse=True)
def loaded_once(run):
    """Loads and traces the model once for all tests here."""
    from mmkeras.export import inference

    trained_model = load_trained(run[0])
    predictor = inference.Predictor(trained_model)
    plain = inference.load_trained
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            inference,
            "load_trained",
            lambda f: trained_model if f == run[0] else plain(f),
        )
        patch.setattr(inference, "Predictor", lambda _: predictor)
        yield


def argv(run, *more):
    return ["--model", str(run[0]), "--data", str(run[1]), *more]


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_text_finds_pictures_of_its_class(run, tmp_path, capsys):
    out = tmp_path / "out.csv"
    words = argv(run, "--query-text", "warm fire number 7", "--top", "6")
    assert main([*words, "--output", str(out)]) == 0
    found = read(out)
    assert [row["rank"] for row in found] == list("123456")
    assert {row["found"] for row in found} == {"image"}
    assert {row["label"] for row in found} == {"red"}
    cosines = [float(row["cosine"]) for row in found]
    assert cosines == sorted(cosines, reverse=True) and cosines[0] <= 1.000001
    said = capsys.readouterr().out
    assert said.startswith("| image") and found[0]["content"] in said
    assert said.endswith(f"Found: {out}\n")


def test_a_picture_finds_texts_and_all_rows_are_searched(run, tmp_path):
    image = tmp_path / "p.jpg"
    image.write_bytes(table_factory.image((35, 195, 70), "JPEG"))
    out = tmp_path / "out.csv"
    query = argv(run, "--query-image", str(image), "--find", "text", "--top", "99")
    assert main([*query, "--output", str(out)]) == 0
    found = read(out)
    assert len(found) == 40 and found[0]["content"].startswith("fresh grass")
    assert {row["id"] for row in found} == {f"r{i:02d}" for i in range(40)}


def test_rows_without_what_is_sought_are_not_found(run, tmp_path):
    out = tmp_path / "out.csv"
    query = argv(run, "--query-text", "fire", "--top", "99", "--output", str(out))
    assert main(query) == 0
    assert {f"r{i:02d}" for i in range(40)} - {r["id"] for r in read(out)} == {"r33"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "There are 0 queries; give one of --query-text, --query-image, --query-"),
        (["--query-text", "a", "--query-image", "b"], "There are 2 queries"),
        (["--query-text", " "], "--query-text is empty"),
        (["--query-image", "no.png"], "--query-image: image 'no.png'"),
        (["--query-audio", "a.wav"], "'audio' is not aligned .*; text and image are"),
        (["--query-text", "a", "--find", "audio"], "--find: 'audio' is not aligned"),
        (["--query-text", "a", "--find", "text"], "is the query's own"),
        (["--query-text", "a", "--top", "0"], "--top=0"),
        (["--query-text", "a", "--output", "/no/where.csv"], "in a folder that exists"),
    ],
)
def test_what_cannot_be_asked_is_said(run, more, message):
    with pytest.raises(UserError, match=message):
        main(argv(run, *more))


def test_a_broken_query_is_refused_and_not_searched_for(run, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(table_factory.image()[:50])
    with pytest.raises(UserError, match="--query-image: image '.*: the picture can"):
        main(argv(run, "--query-image", str(broken)))


def test_a_run_without_alignment_says_how_to_get_one(run, tmp_path_factory):
    folder, table = table_factory.trained_run(tmp_path_factory)
    with pytest.raises(UserError, match="no aligned modalities.*--loss.text_image"):
        main(["--model", str(folder), "--data", str(table), "--query-text", "a"])


def test_the_report_says_how_often_the_right_row_is_found(run):
    folder, _ = run
    metrics = json.loads((folder / "metrics.json").read_text())
    retrieval = metrics["retrieval"]
    assert set(retrieval) == {"text_to_image", "image_to_text"}
    found = retrieval["text_to_image"]
    assert found["rows"] == 7  # of 8 test rows one has no picture
    recalls = [found[f"recall_at_{k}"]["value"] for k in (1, 5, 10)]
    assert recalls == sorted(recalls) and recalls[2] == 1
    assert "Does one modality find the other?" in (folder / "report.html").read_text()


def test_the_export_embeds_each_aligned_modality(run):
    folder, _ = run
    rows = {"text": [b"fresh grass", b""], "image": [b"", table_factory.image()]}
    with loaded(folder / "export" / "1") as call:
        answer = call("embed", rows)
    assert {k: v.shape for k, v in answer.items()} == {
        "embedding": (2, 8),
        "text_embedding": (2, 4),
        "image_embedding": (2, 4),
        "status": (2,),
    }
    lengths = np.linalg.norm(answer["text_embedding"], axis=1)
    np.testing.assert_allclose(lengths, [1, 0], atol=1e-5)
    served = tf.saved_model.load(str(folder / "export" / "1")).signatures
    assert "text_embedding" not in served["serving_default"].structured_outputs


def test_history_has_what_is_trained_beside_the_classifier(run):
    history = json.loads((run[0] / "history.json").read_text())
    assert history[-1]["beside"] < history[0]["beside"]
    assert all(entry["val_loss"] < entry["loss"] for entry in history)
