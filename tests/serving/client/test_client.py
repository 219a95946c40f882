"""Predictions, retries, versions and streams of `Client` and of `AsyncClient`."""

import asyncio
import io
import itertools
import math
import signal
import threading
import time
from contextlib import ExitStack, closing
from functools import partial

import grpc
import pytest
import soundfile
import tensorflow as tf

from mmkeras.errors import UserError
from serving.client import AsyncClient, Client, PredictError
from tests import table_factory
from tests.serving.client.blocking_async_client import BlockingAsyncClient
from tests.serving.client.fake_server import (
    FakeServer,
    Fault,
    make_generator,
    make_model,
    make_regression,
    serve_grpc,
)
from tests.serving.client.network import LOCAL, free_port

CODES = grpc.StatusCode
FULL = "The batch scheduling queue to which this task was submitted is full"


@pytest.fixture
def open_client(serve):
    """open_client(fake server, **settings) -> Client of the server."""
    with ExitStack() as stack:
        yield lambda server, kind=Client, **settings: stack.enter_context(
            closing(kind(serve(server), **settings))
        )


@pytest.fixture(params=[Client, BlockingAsyncClient])
def open_any(request, open_client):
    """open_any(fake server, **settings) -> Client or AsyncClient of the server."""
    return partial(open_client, kind=request.param)


def text_rows(count):
    return [{"text": str(i)} for i in range(count)]


def first_text(request):
    return request.inputs["text"].string_val[0]


def test_predictions_equal_those_of_the_model_itself(
    open_any, trained_server, servable
):
    client = open_any(trained_server)
    png, wave = table_factory.image((30, 200, 60)), table_factory.tone(880)
    row = {"image": png, "text": "fresh grass", "audio": wave}
    prediction = client.predict(**row)
    feeds = {"text": [b"fresh grass"], "image": [png], "audio": [wave]}
    expected = servable.run("serving_default", feeds)
    assert prediction.label == expected["label"][0].decode()
    assert prediction.score == pytest.approx(expected["score"][0], abs=1e-7)
    assert list(prediction.probabilities) == ["green", "red"]
    assert list(prediction.probabilities.values()) == pytest.approx(
        expected["probabilities"][0].tolist(), abs=1e-7
    )
    assert prediction.status == "ok" and prediction.problems == ()
    assert prediction.version in (3, None)  # None by REST, see test_transports.py
    assert client.predict_rows([row]) == list(client.stream([row])) == [prediction]


def test_transcoded_files_have_the_prediction_of_their_content(
    open_client, trained_server
):
    client, color = open_client(trained_server), (220, 30, 40)
    png, tiff = (table_factory.image(color, kind) for kind in ("PNG", "TIFF"))
    flac, wave = table_factory.tone(kind="FLAC"), io.BytesIO()
    samples, rate_hz = soundfile.read(io.BytesIO(flac), dtype="int16")
    soundfile.write(wave, samples, rate_hz, "PCM_16", format="WAV")
    prediction = client.predict(image=png, audio=wave.getvalue())
    assert prediction.status == "text absent"
    assert client.predict(image=tiff, audio=flac) == prediction


def test_the_model_is_described_once_for_all_calls_and_threads(
    open_client, trained_server
):
    client, labels = open_client(trained_server), []
    threads = [
        threading.Thread(target=lambda: labels.append(client.predict(text="a").label))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(labels) == 8 and len(set(labels)) == 1
    client.predict_rows(text_rows(3))
    list(client.stream(text_rows(5)))
    model = client.describe()
    assert model.columns == {"text": "text", "image": "image", "audio": "audio"}
    assert list(model.columns) == ["text", "image", "audio"]
    assert model.classes == ("green", "red") and model.version == 3
    calls = trained_server.calls
    assert calls["GetModelMetadata"] == calls["Classify"] == calls["Columns"] == 1
    assert calls["Predict"] == 8 + 1 + 5


def test_faulty_files_are_one_warning_at_the_line_of_the_caller(
    open_client, trained_server
):
    client, row = open_client(trained_server), {"audio": table_factory.faulty_tone()}
    for call in (
        lambda: client.predict_rows([row] * 3),
        lambda: [client.predict(**row)],
        lambda: asyncio.run(predict_rows(client.settings.target, [row])),
    ):
        with pytest.warns(UserWarning, match="read whole: audio.*WAV") as seen:
            predictions = call()
        (warning,) = seen
        assert warning.filename == __file__ and predictions[0].status.startswith("text")
        has_more = "and 1 more" in str(warning.message)
        assert has_more == (len(predictions) == 3)
    (prediction,) = client.stream([row])  # without a warning
    assert "WAV announces" in prediction.notes[0]


async def predict_rows(target, rows):
    async with AsyncClient(target) as client:
        return await client.predict_rows(rows)


def test_a_batch_is_one_request_and_no_rows_are_none(open_client, text_server):
    client = open_client(text_server)
    assert len(client.predict_rows(text_rows(5))) == 5
    assert text_server.batch_sizes == [5]
    assert client.predict_rows([]) == [] and list(client.stream([])) == []
    assert text_server.calls["Predict"] == 1


def test_an_input_that_the_model_has_not_and_an_unreadable_file_are_refused(
    open_any, trained_server, text_server
):
    with pytest.raises(UserError, match=r"has no column 'image'; it has text \(text\)"):
        open_any(text_server).predict(image="x.png", text="a")
    with pytest.raises(UserError, match="image 'gone.png': file not found"):
        open_any(trained_server).predict(image="gone.png", text="a")
    assert text_server.calls["Predict"] == trained_server.calls["Predict"] == 0


# Named columns ------------------------------------------------------------------


@pytest.fixture
def shop_server():
    """Fake server of a model of columns title, photo and price; and its requests."""
    columns = {"title": "text", "photo": "image", "price": "numeric"}
    server, server.requests = FakeServer(make_model(columns=columns)), []
    server.before = server.requests.append
    return server


def sent(server):
    """Returns column -> values of the last request."""
    inputs = server.requests[-1].inputs
    return {name: tf.make_ndarray(t).tolist() for name, t in inputs.items()}


def test_values_are_sent_by_column(open_any, shop_server):
    client, png = open_any(shop_server), table_factory.image()
    prediction = client.predict(title="a cat", photo=png, price=3.5)
    assert (prediction.label, prediction.status) == ("a", "ok")
    assert sent(shop_server) == {"title": [b"a cat"], "photo": [png], "price": [3.5]}
    assert shop_server.calls["Columns"] == 1


def test_what_a_row_lacks_is_sent_as_absent(open_any, shop_server):
    rows = [{"price": 2, "title": None}, {"title": "b", "price": float("nan")}]
    first, second = open_any(shop_server).predict_rows(rows)
    assert first.status == "title absent; photo absent"
    assert second.status == "photo absent; price absent"
    values = sent(shop_server)
    assert values["title"] == [b"", b"b"] and values["photo"] == [b"", b""]
    assert values["price"][0] == 2.0 and math.isnan(values["price"][1])


def test_a_stream_continues_after_a_number_that_is_none(open_any, shop_server):
    client = open_any(shop_server)
    first, second = client.stream([{"price": "dear"}, {"price": "2.5"}], batch=2)
    assert first.status == "title absent; photo absent; price unreadable"
    assert first.problems[0].startswith("price 'dear': not a number")
    assert second.status == "title absent; photo absent"


def test_an_unknown_column_is_refused_with_those_of_the_model(open_any, shop_server):
    with pytest.raises(UserError) as error:
        open_any(shop_server).predict(titel="a cat")
    assert "title (text), photo (image), price (numeric)" in str(error.value)
    assert "Did you mean 'title'?" in str(error.value)
    assert not shop_server.requests


# Retries and deadlines ----------------------------------------------------------


def test_a_full_queue_is_retried_until_it_has_room(open_any, text_server):
    text_server.faults += [Fault(CODES.UNAVAILABLE, FULL)] * 2
    assert open_any(text_server).predict(text="a").label == "a"
    assert text_server.calls["Predict"] == 3


def test_after_the_last_retry_the_error_is_raised(open_any, text_server):
    text_server.faults += [Fault(CODES.RESOURCE_EXHAUSTED, FULL)] * 9
    with pytest.raises(PredictError) as error:
        open_any(text_server, retries=2).predict(text="a")
    assert error.value.code == "RESOURCE_EXHAUSTED" and error.value.attempts == 3
    assert f"RESOURCE_EXHAUSTED: {FULL} (sent 3 times)" in str(error.value)
    assert text_server.calls["Predict"] == 3


def test_the_description_counts_towards_the_deadline(open_any, text_server):
    text_server.before_metadata = lambda: time.sleep(0.7)
    text_server.delay_s = 0.7
    with pytest.raises(PredictError) as error:
        open_any(text_server, timeout_s=1).predict(text="a")
    assert error.value.code == "DEADLINE_EXCEEDED"


def test_a_thread_waits_for_the_description_of_another_until_its_deadline(
    open_any, text_server
):
    silent, end = threading.Event(), threading.Event()
    text_server.before_metadata = lambda: silent.set() or end.wait(60)
    client, codes = open_any(text_server, timeout_s=0.5), []

    def predict():
        with pytest.raises(PredictError) as error:
            client.predict(text="a")
        codes.append(error.value.code)

    threads = [threading.Thread(target=predict) for _ in range(2)]
    threads[0].start()
    assert silent.wait(20)
    start_s = time.monotonic()
    threads[1].start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - start_s < 5
    end.set()
    assert codes == ["DEADLINE_EXCEEDED"] * 2


def test_a_server_that_starts_late_is_waited_for(text_server):
    port, labels = free_port(), []
    with Client(f"{LOCAL}:{port}", retries=50, timeout_s=30) as client:
        thread = threading.Thread(
            target=lambda: labels.append(client.predict(text="a").label)
        )
        thread.start()
        time.sleep(0.3)  # the first attempts fail
        with serve_grpc(text_server, port=port):
            thread.join()
    assert labels == ["a"]


# Versions -----------------------------------------------------------------------


def test_a_version_with_other_classes_is_noticed_by_its_first_response(
    open_client, text_server
):
    client = open_client(text_server)
    assert client.predict(text="a").probabilities.keys() == {"a", "b"}
    text_server.versions = {4: make_model(classes=("b", "c", "d"), top=2)}
    prediction = client.predict(text="a")
    assert prediction.label == "d" and list(prediction.probabilities) == ["b", "c", "d"]
    assert client.describe().classes == ("b", "c", "d")
    assert client.describe().version == 4


# Streams ------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3])
def test_a_stream_keeps_the_order_of_the_rows(open_any, text_server, batch):
    labels = [f"class {i}" for i in range(20)]
    text_server.versions = {3: make_model(classes=labels, top=int)}
    text_server.before = lambda r: time.sleep(0.02 * (int(first_text(r)) % 3))
    stream = open_any(text_server).stream(text_rows(20), in_flight=4, batch=batch)
    assert [prediction.label for prediction in stream] == labels
    assert len(text_server.batch_sizes) == -(-20 // batch)


def test_a_stream_limits_concurrent_requests_and_rows_read_ahead(open_any, text_server):
    rows_read, predictions, max_ahead = 0, 0, 0
    barrier = threading.Barrier(3)

    def rows():
        nonlocal rows_read, max_ahead
        for row in itertools.islice(itertools.cycle(text_rows(10)), 198):
            rows_read += 1
            max_ahead = max(max_ahead, rows_read - predictions)
            yield row

    def wait_for_others(_):
        barrier.wait(60)
        time.sleep(0.02)  # for one request too many, if there is one

    text_server.before = wait_for_others
    for _ in open_any(text_server).stream(rows(), in_flight=3, batch=2):
        predictions += 1
    assert predictions == 198 and text_server.calls["Predict"] == 99
    assert text_server.max_concurrent == 3
    assert max_ahead <= 2 * 3 * 2 + 2


def test_a_stream_continues_after_rows_that_are_unreadable_or_too_large(
    open_client, trained_server
):
    client = open_client(trained_server, max_message_bytes=200_000)
    rows = [
        {"text": "warm fire", "image": "gone.png"},
        {"text": "x" * 200_000},
        {"audio": b"RIFF"},
        {"text": "warm fire"},
    ]
    first, second, third, last = client.stream(rows, batch=2)
    assert first.status == "image unreadable; audio absent"
    assert first.problems == ("image 'gone.png': file not found",)
    # A batch of another shape may sum in another order.
    assert first.probabilities == pytest.approx(last.probabilities, abs=1e-6)
    assert second.label == "" and second.status.startswith("row unreadable: 2")
    assert "more than a message may have" in second.status
    assert third.status == "text absent; image absent; audio unreadable"


def test_ctrl_c_for_another_thread_ends_a_stream(open_client, text_server):
    silent, end = threading.Event(), threading.Event()
    text_server.before = lambda _: text_server.calls["Predict"] > 2 and (
        silent.set() or end.wait(60)
    )

    def interrupt():
        assert silent.wait(30)
        time.sleep(0.2)  # until the stream waits
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    start_s = time.monotonic()
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            client = open_client(text_server, timeout_s=40)
            list(client.stream(text_rows(50), in_flight=2))
        assert time.monotonic() - start_s < 30
    finally:
        end.set()
        thread.join()


def test_an_error_ends_a_stream_after_the_predictions_before_it(open_any, text_server):
    def fail(request):
        if first_text(request) == b"7":
            raise Fault(CODES.INTERNAL, "seven")

    text_server.before, predictions = fail, []
    with pytest.raises(PredictError, match="seven"):
        for prediction in open_any(text_server).stream(text_rows(50), in_flight=2):
            predictions.append(prediction)
    assert len(predictions) == 7 and text_server.calls["Predict"] < 20


@pytest.mark.parametrize("batch", [1, 3])
def test_an_error_of_the_rows_is_raised_after_the_predictions_before_it(
    open_any, text_server, batch
):
    def rows():
        yield from text_rows(10)
        raise ZeroDivisionError("no more rows")

    labels = []
    with pytest.raises(ZeroDivisionError, match="no more rows"):
        for prediction in open_any(text_server).stream(rows(), batch=batch):
            labels.append(prediction.label)
    assert labels == ["a"] * 10


def test_a_stream_that_is_left_sends_no_more(open_any, text_server):
    end = threading.Event()
    text_server.before = lambda r: first_text(r) != b"0" and end.wait(60)
    stream = open_any(text_server).stream(itertools.cycle(text_rows(3)), in_flight=2)
    next(stream)
    start_s = time.monotonic()
    stream.close()  # does not wait for pending requests
    assert time.monotonic() - start_s < 20
    end.set()
    time.sleep(0.2)
    calls = text_server.calls["Predict"]
    time.sleep(0.2)
    assert text_server.calls["Predict"] == calls < 20


def test_a_closed_client_raises_an_error(open_any, text_server):
    client = open_any(text_server)
    client.predict(text="a")
    client.close()
    for predict in (client.predict, lambda **row: list(client.stream([row]))):
        with pytest.raises(PredictError, match="the client is closed") as error:
            predict(text="a")
        assert error.value.code == "CANCELLED" and error.value.attempts == 1


def test_closing_a_client_ends_its_stream(open_client, text_server):
    end = threading.Event()
    text_server.before = lambda r: first_text(r) != b"0" and end.wait(60)
    client = open_client(text_server)
    stream = client.stream(itertools.cycle(text_rows(3)), in_flight=2)
    next(stream)
    client.close()
    with pytest.raises(PredictError, match="the client is closed"):
        list(stream)
    end.set()


def test_a_regression_gives_values(open_any):
    client = open_any(FakeServer(make_regression()))
    first, second = client.predict_rows([{"text": "2.5"}, {"text": "-1"}])
    assert (first.value, first.label, first.status) == (2.5, "2.5", "ok")
    assert second.value == -1 and second.probabilities == {}


def test_a_model_that_becomes_a_regression_is_described_again(open_any, text_server):
    client = open_any(text_server)
    assert client.predict(text="0").label == "a"
    text_server.versions[4] = make_regression()
    assert client.predict(text="7").value == 7
    text_server.versions[5] = make_model(top=1)
    prediction = client.predict(text="7")
    assert prediction.label == "b" and prediction.value is None


def test_a_generator_gives_texts_with_scores(open_any):
    server = FakeServer(make_generator())
    client = open_any(server)
    first, second = client.predict_rows([{"text": "hé"}, {"text": "ho"}])
    assert (first.text, first.label, first.status) == ("hé hé", "hé hé", "ok")
    assert first.score == -1 and first.probabilities == {} and first.value is None
    assert first.n_best == ("hé hé", "hé hé.") and first.n_best_score == (-1, -2)
    assert second.text == "ho ho" and second.n_best[0] == "ho ho"
    (streamed,) = client.stream([{"text": "hi"}])
    assert streamed.text == "hi hi" and streamed.n_best_score == (-1, -2)
    assert not server.calls["Classify"]


def test_a_generator_without_n_best_gives_one_text(open_any):
    client = open_any(FakeServer(make_generator(n_best=0)))
    prediction = client.predict(text="hi")
    assert prediction.text == "hi hi" and prediction.n_best_score == ()
    assert prediction.n_best == () and prediction.score == -1


def test_a_model_that_becomes_a_generator_is_described_again(open_any, text_server):
    client = open_any(text_server)
    assert client.predict(text="0").text is None
    text_server.versions[4] = make_generator(n_best=0)
    assert client.predict(text="7").text == "7 7"
    text_server.versions[5] = make_generator(n_best=3)
    assert client.predict(text="7").n_best == ("7 7", "7 7.", "7 7..")
    text_server.versions[6] = make_generator(n_best=0)
    assert client.predict(text="7").n_best == ()
    text_server.versions[7] = make_regression()
    assert client.predict(text="7").value == 7
    text_server.versions[8] = make_generator()
    assert client.predict(text="7").n_best_score == (-1, -2)
    text_server.versions[9] = make_model(top=1)
    prediction = client.predict(text="7")
    assert prediction.label == "b" and prediction.text is None
