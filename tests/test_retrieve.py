import json
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from mmkeras.data.example_reader import RowReader
from mmkeras.errors import UserError
from mmkeras.export.saved_model_session import load_saved_model
from mmkeras.retrieve import main
from tests import table_factory
from tests.program_harness import cached_model, output_of, read_csv


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = table_factory.aligned_run(tmp_path_factory)
    with cached_model(run[0]):
        yield run


def argv(run, *more):
    return ["--model", str(run[0]), "--data", str(run[1]), *map(str, more)]


def test_a_text_finds_images_of_its_class(run, tmp_path):
    path = tmp_path / "out.csv"
    query = argv(run, "--query-text", "warm fire number 7", "--top", "6")
    out = output_of(main, [*query, "--output", path])
    results = read_csv(path)
    assert [row["rank"] for row in results] == list("123456")
    assert {row["found"] for row in results} == {"image"}
    assert {row["label"] for row in results} == {"red"}
    cosines = [float(row["cosine"]) for row in results]
    assert cosines == sorted(cosines, reverse=True) and cosines[0] <= 1.000001
    assert out.startswith("| image") and results[0]["content"] in out
    assert out.endswith(f"Found: {path}\n")


def test_an_image_finds_texts_and_all_rows_are_searched(run, tmp_path):
    image, path = tmp_path / "p.jpg", tmp_path / "out.csv"
    image.write_bytes(table_factory.image((35, 195, 70), "JPEG"))
    query = argv(run, "--query-image", image, "--find", "text", "--top", "99")
    output_of(main, [*query, "--output", path])
    results = read_csv(path)
    assert len(results) == 40 and results[0]["content"].startswith("fresh grass")
    assert {row["id"] for row in results} == {f"r{i:02d}" for i in range(40)}


def test_faulty_files_that_are_read_whole_are_one_warning(run, monkeypatch, capsys):
    def read_with_note(reader, row):
        content = read(reader, row)
        notes = {"notes": ("a fault",)}
        contents = {n: replace(c, **notes) for n, c in content.contents.items()}
        return replace(content, contents=contents)

    read = RowReader.read
    monkeypatch.setattr(RowReader, "read", read_with_note)
    main(argv(run, "--query-text", "fire"))
    (warning,) = (x for x in capsys.readouterr().err.splitlines() if "Warning" in x)
    assert "read whole: --query-text: a fault, line 2: a fault, and 38 more." in warning


def test_rows_without_the_target_modality_are_not_results(run, tmp_path):
    path = tmp_path / "out.csv"
    query = argv(run, "--query-text", "fire", "--top", "99", "--output", path)
    output_of(main, query)
    ids = {row["id"] for row in read_csv(path)}
    assert {f"r{i:02d}" for i in range(40)} - ids == {"r33"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "There are 0 queries; give one of --query-text, --query-image, --query-"),
        (["--query-text", "a", "--query-image", "b"], "There are 2 queries"),
        (["--query-text", " "], "--query-text is empty"),
        (["--query-image", "no.png"], "--query-image: image 'no.png'"),
        (["--query-audio", "a.wav"], "'audio' is not aligned .*; text and image are"),
        (["--query-text", "a", "--find", "audio"], "--find: 'audio' is not aligned"),
        (["--query-text", "a", "--find", "text"], "--find text"),
        (["--query-text", "a", "--top", "0"], "--top=0"),
        (["--query-text", "a", "--output", "/no/where.csv"], "in a folder that exists"),
    ],
)
def test_an_invalid_query_is_refused(run, more, message):
    with pytest.raises(UserError, match=message):
        main(argv(run, *more))


def test_a_run_without_alignment_is_refused_with_the_remedy(run, tmp_path_factory):
    folder, table = table_factory.trained_run(tmp_path_factory)
    with pytest.raises(UserError, match="no aligned modalities.*--loss.text_image"):
        main(["--model", str(folder), "--data", str(table), "--query-text", "a"])


def test_the_report_has_the_recall_of_both_directions(run):
    folder, _ = run
    metrics = json.loads((folder / "metrics.json").read_text())
    retrieval = metrics["retrieval"]
    assert set(retrieval) == {"text_to_image", "image_to_text"}
    result = retrieval["text_to_image"]
    assert result["rows"] == 7  # one of 8 test rows has no image
    recalls = [result[f"recall_at_{k}"]["value"] for k in (1, 5, 10)]
    assert recalls == sorted(recalls) and recalls[2] == 1
    assert "Does one modality find the other?" in (folder / "report.html").read_text()


def test_the_export_embeds_each_aligned_modality(run):
    folder, _ = run
    rows = {"text": [b"fresh grass", b""], "image": [b"", table_factory.image()]}
    with load_saved_model(folder / "export" / "1") as call:
        outputs = call("embed", rows)
    shapes = {"text_embedding": (2, 4), "image_embedding": (2, 4)}
    shapes |= {"embedding": (2, 8), "status": (2,)}
    assert {k: v.shape for k, v in outputs.items()} == shapes
    lengths = np.linalg.norm(outputs["text_embedding"], axis=1)
    np.testing.assert_allclose(lengths, [1, 0], atol=1e-5)
    served = tf.saved_model.load(str(folder / "export" / "1")).signatures
    assert "text_embedding" not in served["serving_default"].structured_outputs


def test_history_has_the_auxiliary_loss(run):
    history = json.loads((run[0] / "history.json").read_text())
    assert history[-1]["auxiliary_loss"] < history[0]["auxiliary_loss"]
    assert all(entry["val_loss"] < entry["loss"] for entry in history)


@pytest.fixture(scope="module")
def captions(generator_run, generator_table):
    """Run folder and table of a generator whose captions are aligned with images."""
    with cached_model(generator_run):
        yield generator_run, generator_table


def test_a_text_of_the_label_finds_images(captions, tmp_path):
    path = tmp_path / "out.csv"
    query = argv(captions, "--query", "A red image.", "--column", "caption")
    output_of(main, [*query, "--top", "6", "--output", path])
    results = read_csv(path)
    assert [row["rank"] for row in results] == list("123456")
    assert {row["found"] for row in results} == {"image"}
    assert {row["label"] for row in results} == {"A red image.|red all over"}


def test_an_image_finds_the_nearest_reference_of_each_label(captions, tmp_path):
    image, path = tmp_path / "p.png", tmp_path / "out.csv"
    image.write_bytes(table_factory.image((30, 200, 60)))
    query = argv(captions, "--query-image", image, "--top", "99", "--output", path)
    output_of(main, query)
    results = read_csv(path)
    assert [row["found"] for row in results] == ["caption"] * 40
    assert len({row["id"] for row in results}) == 40
    assert ["green" in row["content"] for row in results] == [True] * 20 + [False] * 20
    for row in results:
        assert row["content"] in row["label"].split("|")
    nearest = results[0]["content"]
    rows = [{"caption": f"red all over|{nearest}"}, {"caption": ""}]
    table = table_factory.write_table(tmp_path / "t.csv", rows)
    output_of(main, argv((captions[0], table), *query[4:]))
    (row,) = read_csv(path)
    assert row["content"] == nearest and float(row["cosine"]) > 0


def test_rows_with_one_id_are_one_result(captions, tmp_path):
    image, path = tmp_path / "p.png", tmp_path / "out.csv"
    image.write_bytes(table_factory.image((30, 200, 60)))
    rows = [("a", "red all over"), ("b", "green"), ("a\u200b", "a green image")]
    rows = [{"id": name, "caption": caption} for name, caption in rows]
    table = table_factory.write_table(tmp_path / "t.csv", rows)
    output_of(
        main, argv((captions[0], table), "--query-image", image, "--output", path)
    )
    assert sorted(row["id"][0] for row in read_csv(path)) == ["a", "b"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--query", " ", "--column", "caption"], "has nothing that the model can"),
        (["--query-text", "a"], "'text' is not aligned .*; image and caption are"),
        (["--query-image", "a.png", "--find", "text"], "--find: 'text' is not aligned"),
    ],
)
def test_an_invalid_query_of_a_label_is_refused(captions, more, message):
    with pytest.raises(UserError, match=message):
        main(argv(captions, *more))


def test_a_table_without_the_label_that_is_searched_is_refused(captions, tmp_path):
    image = table_factory.image()
    table = table_factory.write_table(tmp_path / "t.csv", [{"image": image}])
    query = ["--query-image", str(tmp_path / "000-image.bin")]
    with pytest.raises(UserError, match="lacks the column 'caption'"):
        main(argv((captions[0], table), *query))


def test_the_recall_of_captions_and_images_is_measured(captions):
    metrics = json.loads((captions[0] / "metrics.json").read_text())
    assert set(metrics["retrieval"]) == {"image_to_caption", "caption_to_image"}
    # The four rows of a colour share their first caption and have similar images.
    for result in metrics["retrieval"].values():
        assert result["rows"] == 8 and result["chance"]["recall_at_1"] == 0.5
        assert result["recall_at_1"]["value"] == 1
