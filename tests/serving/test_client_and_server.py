"""Client against the TF Serving-compatible server, on an export and on columns."""

import base64
import csv
import io
import json
import math
from dataclasses import replace
from urllib.request import urlopen

import pytest
from PIL import Image

from mmkeras.export.inference import Predictor, load_trained
from mmkeras.export.saved_model import export
from mmkeras.predict import predict
from serving.client import Client
from serving.client.__main__ import main
from tests import table_factory
from tests.fitted_state import fitted_state
from tests.preset_models import new_model
from tests.serving.server_process import start_server
from tests.table_factory import trained_run

PRICE = "price (\u20ac)"
SHOP = {"title": "text", "photo": "image", PRICE: "numeric"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained_run(tmp_path_factory)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Base path of the export of an untrained model of columns `SHOP`; the model."""
    folder = tmp_path_factory.mktemp("shop")
    config = replace(table_factory.tiny_config(folder / "cache"), columns=SHOP)
    model = new_model(config, fitted_state(config))
    row = {"title": b"a", "photo": b"", PRICE: 3.5}
    export(model, [row], folder / "export")
    return folder / "export", model


@pytest.fixture(scope="module")
def server(run, shop, generator_run, tmp_path_factory):
    """Server of the exports, with batching."""
    folder = tmp_path_factory.mktemp("server")
    batching = folder / "batching"
    batching.write_text(
        "max_batch_size { value: 16 } batch_timeout_micros { value: 2000 }"
    )
    models = {"mmkeras": run[0] / "export", "shop": shop[0]}
    models["captions"] = generator_run / "export"
    flags = ("--batching-parameters-file",)
    with start_server(models, folder / "log", *flags, str(batching)) as server:
        yield server


def read_rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def expected(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("local") / "predicted.csv"
    predict(*run, path)
    return read_rows(path)


@pytest.fixture(params=["grpc", "rest"])
def target(request, server):
    return server.grpc if request.param == "grpc" else f"http://{server.rest}"


def test_an_export_describes_its_columns(target):
    with Client(target) as client:
        model = client.describe()
    assert list(model.columns.items()) == [(m, m) for m in ("text", "image", "audio")]
    assert model.classes == ("green", "red")


def test_columns_of_any_name_and_of_numbers_arrive(target, shop):
    png = table_factory.image()
    rows = [
        {"title": "a", "photo": Image.open(io.BytesIO(png)), PRICE: 3.5},
        {"title": "b", "photo": table_factory.image(kind="TIFF"), PRICE: "1"},
        {PRICE: float("nan")},
        {PRICE: 2**25 + 2},
    ]
    with Client(target, model="shop") as client:
        assert list(client.describe().columns.items()) == list(SHOP.items())
        predictions = client.predict_rows(rows)
        streamed = list(client.stream(rows))
    assert [p.status for p in streamed] == [p.status for p in predictions]
    data = {"title": [b"a", b"b", b"", b""], "photo": [png, png, b"", b""]}
    expected = Predictor(shop[1])(data | {PRICE: [3.5, 1.0, math.nan, 2.0**25 + 2]})
    for i, prediction in enumerate(predictions):
        assert prediction.status == expected["status"][i].decode()
        probabilities = list(prediction.probabilities.values())
        assert probabilities == pytest.approx(expected["probabilities"][i], abs=1e-6)
    assert predictions[0].status == "ok"
    assert predictions[2].status == f"title absent; photo absent; {PRICE} absent"


def test_a_table_has_the_predictions_of_mmkeras_predict(
    run, target, expected, tmp_path
):
    argv = ["--target", target, "--data", run[1], "--output", tmp_path / "served.csv"]
    assert main([*map(str, argv), "--in-flight", "4", "--batch", "3"]) == 0
    rows = read_rows(tmp_path / "served.csv")
    assert len(rows) == 40
    for row, other in zip(rows, expected, strict=True):
        for column in ("id", "label", "predicted", "status"):
            assert row[column] == other[column]
        for column in ("score", "red", "green"):
            assert float(row[column]) == pytest.approx(float(other[column]), abs=2e-6)


@pytest.fixture
def texts(generator_run):
    """texts(image, ...) -> outputs of the model itself for rows of these images."""
    predictor = Predictor(load_trained(generator_run))
    return lambda *images: predictor({"image": list(images)})


def test_a_generator_gives_its_texts_with_scores(target, texts):
    images = [table_factory.image(), table_factory.image((30, 200, 60))]
    with Client(target, model="captions") as client:
        model = client.describe()
        predictions = client.predict_rows([*({"image": x} for x in images), {}])
    assert model.is_generator and model.has_n_best and model.classes == ()
    expected = texts(*images, b"")
    for i, prediction in enumerate(predictions):
        assert prediction.text == expected["text"][i].decode() != ""
        assert prediction.score == pytest.approx(expected["score"][i], abs=1e-5)
        assert prediction.status == ("ok", "ok", "image absent")[i]
        best = [text.decode() for text in expected["n_best"][i]]
        assert list(prediction.n_best) == best and best[0] == prediction.text
        scores = pytest.approx(expected["n_best_score"][i], abs=1e-5)
        assert prediction.n_best_score == scores


def test_a_table_has_the_texts_of_mmkeras_predict(
    target, generator_run, generator_table, tmp_path
):
    predict(generator_run, generator_table, tmp_path / "local.csv")
    flags = {"--target": target, "--model": "captions", "--data": generator_table}
    flags |= {"--label-column": "caption", "--output": tmp_path / "served.csv"}
    assert main([str(word) for pair in flags.items() for word in pair]) == 0
    rows, expected = (read_rows(tmp_path / f"{x}.csv") for x in ("served", "local"))
    for row, other in zip(rows, expected, strict=True):
        scores = [float(cells.pop("score")) for cells in (row, other)]
        assert scores[0] == pytest.approx(scores[1], abs=2e-6)
        assert row == other


def test_a_generator_has_the_other_calls_of_tensorflow_serving(server, texts):
    image = table_factory.image()
    expected = texts(image)
    cell = {"b64": base64.b64encode(image).decode()}
    bodies = {
        "predict": {"instances": [{"image": cell}]},
        "classify": {"signature_name": "classify", "examples": [{"image": cell}]},
    }
    replies = {}
    for method, body in bodies.items():
        url = f"http://{server.rest}/v1/models/captions:{method}"
        with urlopen(url, json.dumps(body).encode(), timeout=60) as reply:
            replies[method] = json.load(reply)
    (row,) = replies["predict"]["predictions"]
    best = [text.decode() for text in expected["n_best"][0]]
    assert (row["text"], row["n_best"], row["status"]) == (best[0], best, "ok")
    (pairs,) = replies["classify"]["results"]
    assert [text for text, _ in pairs] == best
    scores = pytest.approx(expected["n_best_score"][0].tolist(), abs=1e-5)
    assert row["n_best_score"] == scores
    assert [score for _, score in pairs] == scores
