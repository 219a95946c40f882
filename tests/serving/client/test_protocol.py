"""What is said and in which order, with a server that is a list of replies."""

import pytest

from mmkeras.errors import UserError
from serving.client import grpc_codec, rest_codec
from serving.client.errors import PredictError
from serving.client.inputs import PreparedRow
from serving.client.protocol import ClientProtocol
from serving.client.requests import (
    ClassNamesCall,
    MetadataCall,
    ModelMetadata,
    ModelSpec,
    Outputs,
    PredictCall,
    VersionsCall,
)
from serving.client.settings import Settings

OUTPUTS = ("label", "probabilities", "score", "status")


def described(version=3, takes=("text",), classify=True, gives=OUTPUTS):
    names = ["serving_default", *["classify"] * classify]
    inputs = {"serving_default": takes, "classify": ("inputs",)}
    return ModelMetadata(
        version=version,
        inputs={name: inputs[name] for name in names},
        outputs=dict.fromkeys(names, gives),
    )


def outputs(rows=1, version=3, label="a", probabilities=(0.9, 0.1)):
    return Outputs(
        version=version,
        probabilities=[list(probabilities)] * rows,
        labels=[label] * rows,
        scores=[max(probabilities)] * rows,
        statuses=["ok"] * rows,
    )


def refused(code="INVALID_ARGUMENT", text="input size does not match signature"):
    return PredictError(code, text, target="t")


def talks(wire=grpc_codec, **settings):
    settings = {"target": "localhost:8500", "model": "m", **settings}
    return ClientProtocol(Settings(**settings), wire)


def row(**data):
    return PreparedRow(data=data, broken={})


def held(talk, *replies):
    """Holds a talk; returns its calls, and its result or its error."""
    replies, calls = list(replies), []
    step, value = talk.send, None
    try:
        while True:
            calls.append(step(value))
            value = replies.pop(0)
            step = talk.throw if isinstance(value, Exception) else talk.send
    except StopIteration as end:
        assert not replies
        return calls, end.value
    except (PredictError, UserError) as error:
        assert not replies
        return calls, error


SPEC, THIRD = ModelSpec(model="m"), ModelSpec(model="m", version=3)


def test_the_model_is_described_once_and_its_classes_named_at_that_version():
    talk = talks()
    calls, (answer,) = held(
        talk.ask([row(text=b"hi")]), described(), ("a", "b"), outputs()
    )
    assert calls == [
        MetadataCall(spec=SPEC),
        ClassNamesCall(spec=THIRD, modality="text"),
        PredictCall(spec=SPEC, columns={"text": [b"hi"]}),
    ]
    assert answer.label == "a" and answer.version == 3
    assert answer.probabilities == {"a": 0.9, "b": 0.1}
    calls, _ = held(talk.ask([row(text=b"ho")]), outputs())
    assert [type(call) for call in calls] == [PredictCall]


def test_what_is_not_given_is_sent_as_absent_and_only_what_the_model_has():
    takes = ("audio", "image", "text")
    calls, _ = held(
        talks().ask([row(text=b"hi"), row(image=b"png")]),
        described(takes=takes),
        ("a", "b"),
        outputs(2),
    )
    columns = {"text": [b"hi", b""], "image": [b"", b"png"], "audio": [b"", b""]}
    assert calls[-1].columns == columns


def test_a_new_version_is_described_when_its_first_answer_comes():
    talk = talks()
    held(talk.ask([row(text=b"")]), described(), ("a", "b"), outputs())
    new = outputs(version=4, label="c", probabilities=(0.1, 0.2, 0.7))
    calls, (answer,) = held(
        talk.ask([row(text=b"")]), new, described(4), ("a", "b", "c")
    )
    assert calls[1:] == [
        MetadataCall(spec=ModelSpec(model="m", version=4)),
        ClassNamesCall(spec=ModelSpec(model="m", version=4), modality="text"),
    ]
    assert answer.version == 4 and list(answer.probabilities) == ["a", "b", "c"]
    # Both are known from now on, whichever of two servers answers.
    assert len(held(talk.ask([row(text=b"")]), outputs())[0]) == 1
    assert len(held(talk.ask([row(text=b"")]), new)[0]) == 1


def test_a_version_that_has_gone_before_it_was_described_is_asked_no_more():
    talk = talks()
    held(talk.ask([row(text=b"")]), described(), ("a", "b"), outputs())
    calls, (answer,) = held(
        talk.ask([row(text=b"")]),
        outputs(version=4),
        refused("NOT_FOUND"),  # the description of 4
        {5: "AVAILABLE"},
        described(5),
        ("x", "y"),
        outputs(version=5, label="x"),
    )
    assert answer.version == 5 and answer.probabilities == {"x": 0.9, "y": 0.1}
    assert calls[2] == VersionsCall(model="m")


def test_a_model_that_never_stands_still_is_given_up():
    changing = []
    for version in (1, 2, 3):
        changing += [described(version), ("a", "b"), outputs(version=version + 50)]
        changing += [refused("NOT_FOUND"), {}]
    _, error = held(talks().ask([row(text=b"")]), *changing)
    assert error.code == "ABORTED" and "Ask for one version" in str(error)


@pytest.mark.parametrize("version", [None, 3])
def test_labels_that_are_not_the_most_probable_show_that_the_classes_changed(version):
    talk = talks()
    first = outputs(version=version)
    held(talk.ask([row(text=b"")]), described(version), ("a", "b"), first)
    new = outputs(version=version, label="z")
    calls, (answer,) = held(
        talk.ask([row(text=b"")]), new, described(version), ("z", "b")
    )
    assert [type(call) for call in calls] == [PredictCall, MetadataCall, ClassNamesCall]
    assert answer.probabilities == {"z": 0.9, "b": 0.1}


def test_labels_of_multi_label_tasks_fit():
    talk = talks()
    both = outputs(label="a|b", probabilities=(0.9, 0.5))
    none = outputs(label="", probabilities=(0.4, 0.3))
    held(talk.ask([row(text=b"")]), described(), ("a", "b"), both)
    for answered in (both, none):
        calls, _ = held(talk.ask([row(text=b"")]), answered)
        assert [type(call) for call in calls] == [PredictCall]


def test_a_refused_request_is_made_anew_only_if_the_signature_has_changed():
    talk = talks()
    held(talk.ask([row(text=b"a")]), described(), ("a", "b"), outputs())
    refusal = refused()
    calls, error = held(talk.ask([row(text=b"a")]), refusal, described())
    assert [type(call) for call in calls] == [
        PredictCall,
        MetadataCall,
    ] and error is refusal

    calls, (answer,) = held(
        talk.ask([row(text=b"a")]),
        refused(),
        described(4, takes=("image", "text")),
        ("a", "b"),
        outputs(version=4),
    )
    assert calls[-1].columns == {"text": [b"a"], "image": [b""]}
    assert answer.version == 4


def test_a_modality_that_has_gone_is_refused_and_one_that_came_is_found():
    talk = talks()
    held(talk.ask([row(text=b"a")]), described(), ("a", "b"), outputs())
    assert len(held(talk.describe(), *[])[0]) == 0
    calls, model = held(
        talk.describe({"image"}), described(4, takes=("image",)), ("a",)
    )
    assert len(calls) == 2 and model.modalities == ("image",)
    _, error = held(talk.ask([row(text=b"a")]))
    assert "takes no text; it takes image" in str(error)


def test_not_found_says_which_versions_there_are():
    _, error = held(
        talks(version=7).describe(),
        refused("NOT_FOUND", "Servable not found for request: Specific(m, 7)"),
        {3: "AVAILABLE", 2: "END"},
    )
    assert str(error).endswith("Specific(m, 7). Versions that are there: 3.")
    _, error = held(talks().describe(), refused("NOT_FOUND"), {1: "LOADING"})
    assert error.hint == "No version is ready: 1 is LOADING."
    unknown = refused("NOT_FOUND", "Could not find any versions of model m")
    _, error = held(talks().describe(), refused("NOT_FOUND"), unknown)
    assert "Check the model's name" in error.hint
    gateway = refused("NOT_FOUND", "<html>no such page")
    assert held(talks().describe(), gateway, gateway)[1].hint == ""
    _, error = held(talks().describe(), refused("NOT_FOUND"), refused("UNAVAILABLE"))
    assert error.hint == ""


def test_a_label_that_is_not_known_says_which_versions_there_are():
    text = "Unrecognized servable version label: x"
    unknown = refused("INVALID_ARGUMENT", text)
    _, error = held(talks(label="x").describe(), unknown, {3: "AVAILABLE"})
    expected = "A server does not tell its labels. Versions that are there: 3."
    assert str(error).endswith(f"{text}. {expected}")


def test_only_the_latest_few_versions_are_remembered():
    talk = talks()
    for version in range(20):
        replies = [described(version), ("a", "b"), outputs(version=version)]
        held(
            talk.ask([row(text=b"")]),
            *replies[0 if version == 0 else 2 :],
            *([] if version == 0 else replies[:2]),
        )
    assert len(talk._models) == 4


def test_without_a_signature_that_names_the_classes_they_are_numbers():
    calls, (answer,) = held(
        talks().ask([row(text=b"")]), described(classify=False), outputs()
    )
    assert answer.probabilities == {"0": 0.9, "1": 0.1}


@pytest.mark.parametrize(
    "found", [described(takes=("x",)), described(gives=("y",)), described(takes=())]
)
def test_another_kind_of_model_is_refused(found):
    _, error = held(talks().describe(), found)
    assert isinstance(error, UserError) and "none of mmkeras" in str(error)


def test_outputs_for_another_number_of_rows_are_refused():
    _, error = held(talks().ask([row(text=b"")]), described(), ("a", "b"), outputs(2))
    assert error.code == "INTERNAL" and "2 rows of outputs for 1 rows" in str(error)


@pytest.mark.parametrize("wire", [grpc_codec, rest_codec])
def test_a_batch_that_is_too_large_is_split_and_each_request_fits(wire):
    largest = 10_000
    talk = talks(wire, max_message_bytes=largest)
    rows = [row(text=bytes([i]) * 1500) for i in range(10)]
    replies = [described(), ("a", "b")]
    generator, asked = talk.ask(rows), []
    call = next(generator)
    try:
        while True:
            if isinstance(call, PredictCall):
                asked.append(call)
                reply = outputs(len(call.columns["text"]))
            else:
                reply = replies.pop(0)
            call = generator.send(reply)
    except StopIteration as end:
        assert len(end.value) == 10
    assert [text for a in asked for text in a.columns["text"]] == [
        r.data["text"] for r in rows
    ]
    assert 2 <= len(asked) < 10
    for call in asked:
        assert len(wire.send(call, "t").content) <= largest


@pytest.mark.parametrize("wire", [grpc_codec, rest_codec])
def test_a_row_that_is_too_large_by_itself_is_refused(wire):
    talk = talks(wire, max_message_bytes=10_000)
    rows = [row(text=b"x" * 10_000)]
    calls, error = held(talk.ask(rows))
    assert calls == [] and isinstance(error, UserError)
    assert "more than a message may have (max_message_bytes=10000)" in str(error)


def test_nothing_is_asked_of_no_rows():
    assert held(talks().ask([])) == ([], [])
