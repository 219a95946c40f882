"""The client that waits, through both doors, with a real model behind them."""

import io
import itertools
import signal
import threading
import time

import grpc
import pytest
import soundfile

from mmkeras.errors import UserError
from serving.client import Client, PredictError
from serving.client.requests import ClassNamesCall, MetadataCall, ModelMetadata, Outputs
from tests import table_factory
from tests.serving.client import fake_server as stands
from tests.serving.client.fake_server import Fault

CODES = grpc.StatusCode
FULL = "The batch scheduling queue to which this task was submitted is full"


@pytest.fixture
def opened(door):
    """Opens clients of a server, and closes them."""
    clients = []

    def open_client(stand, **settings):
        clients.append(Client(door(stand), **settings))
        return clients[-1]

    open_client.kind = door.kind
    yield open_client
    for client in clients:
        client.close()


def texts(count):
    return [{"text": str(i)} for i in range(count)]


def test_answers_are_those_of_the_model_called_directly(opened, stand, servable):
    client = opened(stand)
    png, wave = table_factory.picture((30, 200, 60)), table_factory.tone(880)
    answer = client.predict(image=png, text="fresh grass", audio=wave)
    feeds = {"text": [b"fresh grass"], "image": [png], "audio": [wave]}
    direct = servable.run("serving_default", feeds)
    assert answer.label == direct["label"][0].decode()
    assert answer.score == pytest.approx(direct["score"][0], abs=1e-7)
    assert list(answer.probabilities) == ["green", "red"]
    assert list(answer.probabilities.values()) == pytest.approx(
        direct["probabilities"][0].tolist(), abs=1e-7
    )
    assert answer.status == "ok" and answer.problems == ()
    assert answer.version == (3 if opened.kind == "grpc" else None)


def test_what_is_transcoded_gets_the_answer_of_what_it_holds(opened, stand):
    client = opened(stand)
    colour = (220, 30, 40)
    png, tiff = (table_factory.picture(colour, kind) for kind in ("PNG", "TIFF"))
    flac, wave = table_factory.tone(kind="FLAC"), io.BytesIO()
    samples, rate_hz = soundfile.read(io.BytesIO(flac), dtype="int16")
    soundfile.write(wave, samples, rate_hz, "PCM_16", format="WAV")
    plain = client.predict(image=png, audio=wave.getvalue())
    assert plain.status == "text absent"
    assert client.predict(image=tiff, audio=flac) == plain


def test_the_model_is_described_once_for_any_number_of_calls(opened, stand):
    client = opened(stand)
    client.predict(text="a")
    client.predict_rows(texts(3))
    list(client.stream(texts(5)))
    model = client.describe()
    assert model.modalities == ("text", "image", "audio")
    assert model.classes == ("green", "red") and model.version == 3
    assert stand.calls["GetModelMetadata"] == stand.calls["Classify"] == 1
    assert stand.calls["Predict"] == 7


def test_a_batch_is_one_request_and_no_rows_are_none(opened, plain):
    client = opened(plain)
    assert len(client.predict_rows(texts(5))) == 5
    assert plain.batches == [5]
    assert client.predict_rows([]) == [] and list(client.stream([])) == []
    assert plain.calls["Predict"] == 1


def test_a_batch_too_large_for_a_message_is_split(opened, plain):
    client = opened(plain, max_message_bytes=10_000)
    rows = [{"text": "x" * 2000} for _ in range(9)]
    assert len(client.predict_rows(rows)) == 9
    assert sum(plain.batches) == 9 and 3 <= len(plain.batches) <= 5


def test_a_modality_that_the_model_has_not_is_refused(opened, plain):
    client = opened(plain)
    with pytest.raises(UserError, match="takes no image; it takes text. Leave image"):
        client.predict(image="x.png", text="a")
    assert plain.calls["Predict"] == 0
    assert client.predict(text="a", image=None).label == "a"


def test_a_file_that_cannot_be_read_is_refused(opened, stand, tmp_path):
    with pytest.raises(UserError, match="image .*gone.png': file not found"):
        opened(stand).predict(image=tmp_path / "gone.png", text="a")
    assert stand.calls["Predict"] == 0


# What is sent again -------------------------------------------------------------


def test_a_full_queue_is_asked_again_until_it_answers(opened, plain):
    plain.faults += [Fault(CODES.UNAVAILABLE, FULL)] * 2
    assert opened(plain).predict(text="a").label == "a"
    assert plain.calls["Predict"] == 3


def test_a_queue_that_stays_full_is_given_up_after_the_retries(opened, plain):
    plain.faults += [Fault(CODES.RESOURCE_EXHAUSTED, FULL)] * 9
    with pytest.raises(PredictError) as error:
        opened(plain, retries=2).predict(text="a")
    assert error.value.code == "RESOURCE_EXHAUSTED" and error.value.attempts == 3
    assert f"answered RESOURCE_EXHAUSTED: {FULL} (sent 3 times)" in str(error.value)
    assert plain.calls["Predict"] == 3


@pytest.mark.parametrize(
    "code", [CODES.INVALID_ARGUMENT, CODES.INTERNAL, CODES.DEADLINE_EXCEEDED]
)
def test_a_refusal_is_not_sent_again(opened, plain, code):
    plain.faults.append(Fault(code, "no"))
    with pytest.raises(PredictError) as error:
        opened(plain).predict(text="a")
    assert error.value.code == code.name
    assert plain.calls["Predict"] == 1


def test_no_retry_is_waited_for_that_would_come_after_the_deadline(door, plain):
    if door.kind == "grpc":
        pytest.skip("gRPC's servers do not say how long to wait")
    plain.faults.append(Fault(CODES.UNAVAILABLE, FULL, {"retry-after": "60"}))
    with Client(door(plain), timeout_s=20) as client:
        with pytest.raises(PredictError, match="is full"):
            client.predict(text="a")
    assert plain.calls["Predict"] == 1


def test_retries_end_with_the_deadline(opened, plain):
    plain.faults += [Fault(CODES.UNAVAILABLE, FULL)] * 10_000
    with pytest.raises(PredictError) as error:
        opened(plain, retries=10_000, timeout_s=2).predict(text="a")
    # On a busy machine it may end while the last attempt is under way.
    assert error.value.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    assert 1 < plain.calls["Predict"] < 1000


def test_a_slow_answer_is_an_error_at_the_deadline(opened, plain):
    gone = threading.Event()
    plain.before = lambda _: gone.wait(60)
    with pytest.raises(PredictError) as error:
        opened(plain, timeout_s=1).predict(text="a")
    gone.set()
    assert error.value.code == "DEADLINE_EXCEEDED" and plain.calls["Predict"] == 1
    assert "no answer within 1 s" in str(error.value)


class SlowDoor:
    """Answers like a model of text, 3 seconds later by a clock of its own."""

    def __init__(self):
        self.now_s, self.given_s = 100.0, []

    def monotonic(self):
        return self.now_s

    def send(self, call, timeout_s):
        self.given_s.append(timeout_s)
        self.now_s += 3.0
        return model_of_text(call)

    def close(self):
        pass


def model_of_text(call):
    """Replies to a call as the model of `stands.made_up` does."""
    if isinstance(call, MetadataCall):
        names = {"serving_default": ("text",), "classify": ("inputs",)}
        gives = ("label", "probabilities", "score", "status")
        return ModelMetadata(
            version=3, inputs=names, outputs={"serving_default": gives}
        )
    if isinstance(call, ClassNamesCall):
        return ("a", "b")
    outputs = {"labels": ["a"], "scores": [0.9], "statuses": ["ok"]}
    return Outputs(version=3, probabilities=[[0.9, 0.1]], **outputs)


def test_a_call_has_one_deadline_with_the_description(monkeypatch):
    client, door = Client("localhost:8500", timeout_s=10), SlowDoor()
    client._door.close()
    client._door = door
    for module in ("client", "exchange"):
        monkeypatch.setattr(f"serving.client.{module}.time", door)
    assert client.predict(text="a").label == "a"
    assert door.given_s == [10.0, 7.0, 4.0]


def test_who_waits_for_anothers_description_has_no_longer_for_that(opened, plain):
    client = opened(plain, timeout_s=0.2)
    with client._first:  # held as by a thread whose server is silent
        with pytest.raises(PredictError) as error:
            client.predict(text="a")
    assert error.value.code == "DEADLINE_EXCEEDED" and not plain.calls


def test_a_server_that_comes_late_is_waited_for(plain):
    from tests.serving.client.test_grpc_transport import free_port

    port, answers = free_port(), []
    target = f"{stands.LOCAL}:{port}"
    with Client(target, retries=50, timeout_s=30) as client:
        asking = threading.Thread(
            target=lambda: answers.append(client.predict(text="a"))
        )
        asking.start()
        time.sleep(0.3)  # the first attempts find nobody
        with stands.grpc_door(plain, port=port):
            asking.join()
    assert answers[0].label == "a"


# Versions -----------------------------------------------------------------------


def test_unknown_models_and_versions_are_one_line_with_what_there_is(opened, plain):
    with pytest.raises(PredictError) as error:
        opened(plain, model="mmkers").predict(text="a")
    assert "answered NOT_FOUND: Servable not found for request: Latest(mmkers). " in (
        str(error.value)
    )
    with pytest.raises(PredictError) as error:
        opened(plain, version=7).predict(text="a")
    assert str(error.value).endswith("Versions that are there: 3.")
    with pytest.raises(PredictError, match="Unrecognized servable version label: x"):
        opened(plain, label="x").predict(text="a")


def test_a_version_with_other_classes_is_noticed_by_its_first_answer(opened, plain):
    client = opened(plain)
    assert client.predict(text="a").probabilities.keys() == {"a", "b"}
    plain.versions = {4: stands.made_up(classes=("b", "c", "d"), top=2)}
    answer = client.predict(text="a")
    assert answer.label == "d" and list(answer.probabilities) == ["b", "c", "d"]
    assert client.describe().classes == ("b", "c", "d")
    assert client.describe().version == 4


def test_a_version_that_takes_something_else_is_noticed(opened, plain):
    client = opened(plain)
    client.predict(text="a")
    plain.versions = {4: stands.made_up(modalities=("text", "image"))}
    assert client.predict(text="a").status == "image absent"
    plain.versions = {5: stands.made_up(modalities=("image",))}
    assert client.predict(image=table_factory.picture()).status == "ok"


# Streams ------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3])
def test_a_stream_answers_in_order_whichever_request_is_faster(opened, plain, batch):
    labels = [f"class {i}" for i in range(20)]
    plain.versions = {3: echoing(labels)}
    plain.before = lambda request: time.sleep(
        0.02 * (int(request.inputs["text"].string_val[0]) % 3)
    )
    answers = opened(plain).stream(texts(20), in_flight=4, batch=batch)
    assert [answer.label for answer in answers] == labels
    assert len(plain.batches) == -(-20 // batch)


def echoing(labels):
    """A model that answers the class whose number it is given."""
    import numpy as np

    made = stands.made_up(classes=tuple(labels))

    def run(signature, feeds):
        if signature == "classify":
            return made.run(signature, feeds)
        chosen = [int(text) for text in feeds["text"]]
        scores = np.eye(len(labels), dtype=np.float32)[chosen]
        return {
            "probabilities": scores,
            "label": np.array([labels[i].encode() for i in chosen], object),
            "score": scores.max(1),
            "status": np.array([b"ok"] * len(chosen), object),
        }

    return stands.Servable(made.signatures, run)


def together(count):
    """Lets requests go on only when so many are there, and a moment has passed."""
    gate = threading.Barrier(count)

    def wait(request):
        gate.wait(60)
        time.sleep(0.02)  # for one too many to come, if there is one

    return wait


def test_no_more_requests_are_under_way_and_no_more_rows_read_than_told(opened, plain):
    read, answered, most_ahead = 0, 0, 0

    def rows():
        nonlocal read, most_ahead
        for row in itertools.islice(itertools.cycle(texts(10)), 198):
            read += 1
            most_ahead = max(most_ahead, read - answered)
            yield row

    plain.before = together(3)
    for _ in opened(plain).stream(rows(), in_flight=3, batch=2):
        answered += 1
    assert answered == 198 and plain.calls["Predict"] == 99
    assert plain.most == 3
    assert most_ahead <= 2 * 3 * 2 + 2


def test_a_stream_goes_on_over_rows_that_cannot_be_read_or_sent(opened, stand):
    client = opened(stand, max_message_bytes=200_000)
    rows = [
        {"text": "warm fire", "image": "gone.png"},
        {"text": "x" * 200_000},
        {"audio": b"RIFF"},
        {"text": "warm fire"},
    ]
    first, second, third, last = client.stream(rows, batch=2)
    assert first.status == "image unreadable; audio absent"
    assert first.problems == ("image 'gone.png': file not found",)
    # a batch of another shape may sum in another order
    assert first.probabilities == pytest.approx(last.probabilities, abs=1e-6)
    assert second.label == "" and second.status.startswith("row unreadable: 2")
    assert " bytes to send, more than a message may have" in second.status
    assert third.status == "text absent; image absent; audio unreadable"


def test_ctrl_c_that_another_thread_is_told_ends_a_stream_too(opened, plain):
    silent, gone = threading.Event(), threading.Event()
    plain.before = lambda _: plain.calls["Predict"] > 2 and (
        silent.set() or gone.wait(60)
    )

    def interrupt():
        assert silent.wait(30)
        time.sleep(0.2)  # until the stream waits
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    teller = threading.Thread(target=interrupt)
    begun = time.monotonic()
    try:
        teller.start()
        with pytest.raises(KeyboardInterrupt):
            list(opened(plain, timeout_s=40).stream(texts(50), in_flight=2))
        assert time.monotonic() - begun < 30
    finally:
        gone.set()
        teller.join()


def test_an_error_ends_a_stream_after_the_answers_before_it(opened, plain):
    def fail(request):
        if request.inputs["text"].string_val[0] == b"7":
            raise Fault(CODES.INTERNAL, "seven")

    plain.before = fail
    answers = []
    with pytest.raises(PredictError, match="seven"):
        for answer in opened(plain).stream(texts(50), in_flight=2):
            answers.append(answer)
    assert len(answers) == 7 and plain.calls["Predict"] < 20


def failing_after(rows):
    yield from rows
    raise ZeroDivisionError("no more rows")


@pytest.mark.parametrize("batch", [1, 3])
def test_rows_that_fail_are_an_error_after_the_answers_to_those_before(
    opened, plain, batch
):
    answers = []
    with pytest.raises(ZeroDivisionError, match="no more rows"):
        stream = opened(plain).stream(failing_after(texts(10)), batch=batch)
        for answer in stream:
            answers.append(answer.label)
    assert answers == ["a"] * 10


def test_a_stream_that_is_left_sends_no_more(opened, plain):
    stream = opened(plain).stream(itertools.cycle(texts(3)), in_flight=2)
    next(stream)
    stream.close()
    time.sleep(0.2)
    sent = plain.calls["Predict"]
    time.sleep(0.2)
    assert plain.calls["Predict"] == sent < 20


def test_a_client_that_is_closed_says_so(opened, plain):
    client = opened(plain)
    client.predict(text="a")
    client.close()
    for ask in (client.predict, lambda **row: list(client.stream([row]))):
        with pytest.raises(PredictError, match="the client is closed") as error:
            ask(text="a")
        assert error.value.code == "CANCELLED" and error.value.attempts == 1


def test_a_client_that_is_closed_during_a_stream_says_so(opened, plain):
    gone = threading.Event()
    plain.before = lambda request: (
        request.inputs["text"].string_val[0] != b"0" and gone.wait(60)
    )
    client = opened(plain)
    stream = client.stream(itertools.cycle(texts(3)), in_flight=2)
    next(stream)
    client.close()
    with pytest.raises(PredictError, match="the client is closed"):
        list(stream)
    gone.set()


def test_threads_share_a_client(opened, plain):
    client, answers = opened(plain), []
    threads = [
        threading.Thread(target=lambda: answers.append(client.predict(text="a")))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [a.label for a in answers] == ["a"] * 16
    assert plain.calls["GetModelMetadata"] == 1
