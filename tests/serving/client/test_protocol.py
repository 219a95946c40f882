"""Calls of each flow and their order; the server is a list of replies."""

import pytest

from mmkeras.errors import UserError
from serving.client import grpc_codec, rest_codec
from serving.client.errors import PredictError
from serving.client.protocol import ClientProtocol
from serving.client.requests import (
    OUTPUTS,
    ClassNamesCall,
    ColumnsCall,
    MetadataCall,
    ModelMetadata,
    ModelSpec,
    Outputs,
    PredictCall,
    PreparedRow,
    VersionsCall,
)
from serving.client.settings import Settings

TYPES = {"price": "numeric", "title": "text"}
SPEC, THIRD = ModelSpec(model="m"), ModelSpec(model="m", version=3)


def metadata(version=3, inputs=("text",), classify=True, outputs=OUTPUTS, more=()):
    names = ["serving_default", *["classify"] * classify, *more]
    signatures = {name: {"inputs": "DT_STRING"} for name in names}
    signatures["serving_default"] = {
        name: "DT_FLOAT" if name == "price" else "DT_STRING" for name in inputs
    }
    return ModelMetadata(
        version=version, inputs=signatures, outputs=dict.fromkeys(names, outputs)
    )


def outputs(rows=1, version=3, label="a", probabilities=(0.9, 0.1)):
    return Outputs(
        version=version,
        probabilities=[list(probabilities)] * rows,
        labels=[label] * rows,
        scores=[max(probabilities)] * rows,
        statuses=["ok"] * rows,
    )


def refusal(code="INVALID_ARGUMENT", text="input size does not match signature"):
    return PredictError(code, text, target="t")


def new_protocol(codec=grpc_codec, **settings):
    settings = {"target": "localhost:8500", "model": "m", **settings}
    return ClientProtocol(Settings(**settings), codec)


def row(**data):
    return PreparedRow(data=data, problems={})


def run(flow, *replies):
    """Sends the replies to a flow; returns its calls, and its result or its error."""
    replies, calls = list(replies), []
    step, value = flow.send, None
    try:
        while True:
            calls.append(step(value))
            value = replies.pop(0)
            step = flow.throw if isinstance(value, Exception) else flow.send
    except StopIteration as end:
        assert not replies
        return calls, end.value
    except (PredictError, UserError) as error:
        assert not replies
        return calls, error


@pytest.fixture
def protocol():
    """Protocol that has described version 3 and predicted once."""
    protocol = new_protocol()
    run(protocol.predict([row(text=b"a")]), metadata(), ("a", "b"), outputs())
    return protocol


def predict(protocol, *replies, text=b""):
    """Returns the types of the calls, the calls, and the prediction or the error."""
    calls, result = run(protocol.predict([row(text=text)]), *replies)
    result = result[0] if isinstance(result, list) else result
    return [type(call) for call in calls], calls, result


def test_the_model_is_described_once_and_its_classes_are_of_that_version():
    protocol = new_protocol()
    _, calls, prediction = predict(
        protocol, metadata(), ("a", "b"), outputs(), text=b"hi"
    )
    assert calls == [
        MetadataCall(spec=SPEC),
        ClassNamesCall(spec=THIRD, row={"text": b""}),
        PredictCall(spec=SPEC, columns={"text": [b"hi"]}),
    ]
    assert prediction.label == "a" and prediction.version == 3
    assert prediction.probabilities == {"a": 0.9, "b": 0.1}
    assert predict(protocol, outputs())[0] == [PredictCall]


def test_types_of_columns_are_those_of_the_described_version():
    protocol, inputs = new_protocol(), ("price", "title")
    replies = [metadata(inputs=inputs, more=["columns"]), TYPES, ("a", "b"), outputs()]
    calls, result = run(protocol.predict([row(price=1.5)]), *replies)
    assert calls[1] == ColumnsCall(spec=THIRD)
    (name, value), *rest = calls[2].row.items()
    assert name == "price" and value != value and not rest  # NaN
    assert calls[3].columns == {"price": [1.5], "title": [b""]}
    calls, error = run(protocol.predict([row(price=b"1.5")]))
    assert calls == [] and "title (text)" in str(error)


def test_a_change_of_types_alone_is_noticed():
    protocol, inputs = new_protocol(), ("price", "title")
    described = metadata(inputs=inputs, more=["columns"])
    run(protocol.predict([row(title=b"a")]), described, TYPES, ("a", "b"), outputs())
    changed = TYPES | {"title": "category"}
    replies = [refusal(), described, changed, ("a", "b"), outputs()]
    calls, _ = run(protocol.predict([row(title=b"a")]), *replies)
    assert len(calls) == 5 and run(protocol.describe())[1].columns == changed


@pytest.mark.parametrize("step", [1, 2])
def test_a_version_that_is_gone_while_it_is_described_is_replaced(step):
    replies = [metadata(3, inputs=("price", "title"), more=["columns"]), TYPES]
    replies = [*replies[:step], refusal("NOT_FOUND"), metadata(4), ("a", "b")]
    calls, model = run(new_protocol().describe(), *replies)
    assert model.version == 4 and len(calls) == len(replies)


def test_missing_modalities_are_sent_as_empty_bytes():
    rows = [row(text=b"hi"), row(image=b"png")]
    inputs = ("audio", "image", "text")
    flow = new_protocol().predict(rows)
    calls, _ = run(flow, metadata(inputs=inputs), ("a", "b"), outputs(2))
    columns = {"text": [b"hi", b""], "image": [b"", b"png"], "audio": [b"", b""]}
    assert calls[-1].columns == columns


def test_a_new_version_is_described_after_its_first_response(protocol):
    new = outputs(version=4, label="c", probabilities=(0.1, 0.2, 0.7))
    _, calls, prediction = predict(protocol, new, metadata(4), ("a", "b", "c"))
    fourth = ModelSpec(model="m", version=4)
    assert calls[1:] == [
        MetadataCall(spec=fourth),
        ClassNamesCall(spec=fourth, row={"text": b""}),
    ]
    assert prediction.version == 4 and list(prediction.probabilities) == ["a", "b", "c"]
    # Both versions are known now: two servers may respond in turn.
    for response in (outputs(), new):
        assert predict(protocol, response)[0] == [PredictCall]


def test_a_version_that_is_gone_before_its_description_is_replaced(protocol):
    _, calls, prediction = predict(
        protocol,
        outputs(version=4),
        refusal("NOT_FOUND"),  # to the description of 4
        {5: "AVAILABLE"},
        metadata(5),
        ("x", "y"),
        outputs(version=5, label="x"),
    )
    assert prediction.version == 5 and prediction.probabilities == {"x": 0.9, "y": 0.1}
    assert calls[2] == VersionsCall(model="m")


def test_a_model_that_changes_all_the_time_is_an_error():
    replies = []
    for version in (1, 2, 3):
        replies += [metadata(version), ("a", "b"), outputs(version=version + 50)]
        replies += [refusal("NOT_FOUND"), {}]
    error = predict(new_protocol(), *replies)[2]
    assert error.code == "ABORTED" and "one version" in str(error)


@pytest.mark.parametrize("version", [None, 3])
def test_labels_that_are_not_the_most_probable_show_other_classes(version):
    protocol = new_protocol()
    predict(protocol, metadata(version), ("a", "b"), outputs(version=version))
    new = outputs(version=version, label="z")
    types, _, prediction = predict(protocol, new, metadata(version), ("z", "b"))
    assert types == [PredictCall, MetadataCall, ClassNamesCall]
    assert prediction.probabilities == {"z": 0.9, "b": 0.1}


def test_a_refused_request_is_sent_again_only_after_a_change_of_the_signature(protocol):
    refused = refusal()
    types, _, error = predict(protocol, refused, metadata())
    assert types == [PredictCall, MetadataCall] and error is refused
    replies = [metadata(4, inputs=("image", "text")), ("a", "b"), outputs(version=4)]
    _, calls, prediction = predict(protocol, refusal(), *replies, text=b"a")
    assert calls[-1].columns == {"text": [b"a"], "image": [b""]}
    assert prediction.version == 4


def test_inputs_follow_the_newest_version(protocol):
    assert run(protocol.describe())[0] == []
    flow = protocol.describe({"image"})
    calls, model = run(flow, metadata(4, inputs=("image",)), ("a",))
    assert len(calls) == 2 and list(model.columns) == ["image"]
    assert "no column 'text'; it has image (image)" in str(
        predict(protocol, text=b"a")[2]
    )


NOT_FOUND = refusal("NOT_FOUND", "Servable not found for request: Specific(m, 7)")
NO_MODEL = refusal("NOT_FOUND", "Could not find any versions of model m")
NO_LABEL = refusal(text="Unrecognized servable version label: x")
NO_PAGE = refusal("NOT_FOUND", "<html>no such page")


@pytest.mark.parametrize(
    ("error", "reply", "hint"),
    [
        (NOT_FOUND, {3: "AVAILABLE", 2: "END"}, "Available versions: 3."),
        (NOT_FOUND, {1: "LOADING"}, "No version is available: 1 is LOADING."),
        (NOT_FOUND, NO_MODEL, "Check the model name"),
        (NO_LABEL, {3: "AVAILABLE"}, "does not list its labels. Available versions: 3"),
        (NO_PAGE, NO_PAGE, ""),
        (NOT_FOUND, refusal("UNAVAILABLE"), ""),
    ],
)
def test_an_unknown_model_version_or_label_has_a_hint(error, reply, hint):
    error.hint = ""
    _, result = run(new_protocol().describe(), error, reply)
    assert result is error and hint in error.hint
    assert bool(error.hint) == bool(hint)


def test_only_the_latest_versions_are_remembered(protocol):
    for version in range(4, 20):
        predict(protocol, outputs(version=version), metadata(version), ("a", "b"))
    for version in range(16, 20):
        assert predict(protocol, outputs(version=version))[0] == [PredictCall]
    replies = [outputs(version=15), metadata(15), ("a", "b")]
    assert len(predict(protocol, *replies)[0]) == 3


def test_without_the_classify_signature_the_classes_are_numbers():
    prediction = predict(new_protocol(), metadata(classify=False), outputs())[2]
    assert prediction.probabilities == {"0": 0.9, "1": 0.1}


@pytest.mark.parametrize("changes", [{"inputs": ("x",)}, {"outputs": ("y",)}])
def test_a_model_of_another_kind_is_refused(changes):
    _, error = run(new_protocol().describe(), metadata(**changes))
    assert isinstance(error, UserError) and "not an export of mmkeras" in str(error)
    _, error = run(new_protocol().describe(), metadata(inputs=()))
    assert isinstance(error, UserError)


def test_outputs_for_another_number_of_rows_are_refused():
    error = predict(new_protocol(), metadata(), ("a", "b"), outputs(2))[2]
    assert error.code == "INTERNAL" and "2 rows of outputs for 1 rows" in str(error)


@pytest.mark.parametrize("codec", [grpc_codec, rest_codec])
def test_the_size_of_numbers_and_of_many_inputs_is_an_upper_bound(codec):
    protocol = new_protocol(codec, max_message_bytes=30_000)
    names = [f"pr\xe9cis {i}" for i in range(100)]
    described = metadata(inputs=names, more=["columns"])
    numbers = dict.fromkeys(names, "DT_FLOAT")
    described.inputs["serving_default"] |= numbers
    types = dict.fromkeys(names, "numeric")
    run(protocol.describe(), described, types, ("a", "b"))
    rows = [row(**dict.fromkeys(names, -1.1754943508222875e-38)) for _ in range(20)]
    flow, calls = protocol.predict(rows), []
    try:
        calls.append(next(flow))
        while True:
            calls.append(flow.send(outputs(len(calls[-1].columns[names[0]]))))
    except StopIteration as end:
        assert len(end.value) == 20
    sizes = [len(codec.encode(call, "t").content) for call in calls]
    assert len(sizes) > 1 and max(sizes) <= 30_000


@pytest.mark.parametrize("codec", [grpc_codec, rest_codec])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 127, 128, 1001, 70_000])
def test_the_size_of_a_row_is_an_upper_bound(codec, size):
    data = {"text": b"x" * size, "image": b"y" * size}
    columns = {name: [content] * 50 for name, content in data.items()}
    content = codec.encode(PredictCall(spec=SPEC, columns=columns), "t").content
    assert len(content) <= 50 * codec.row_bytes(data) + 2048
    if codec is rest_codec:
        assert len(content) > 50 * codec.row_bytes(data) * 0.6


@pytest.mark.parametrize("codec", [grpc_codec, rest_codec])
def test_a_large_batch_is_split_into_requests_that_fit(codec):
    protocol = new_protocol(codec, max_message_bytes=10_000)
    run(protocol.describe(), metadata(), ("a", "b"))
    texts = [bytes([i]) * 1500 for i in range(10)]
    flow, calls = protocol.predict([row(text=text) for text in texts]), []
    try:
        calls.append(next(flow))
        while True:
            calls.append(flow.send(outputs(len(calls[-1].columns["text"]))))
    except StopIteration as end:
        assert len(end.value) == 10
    assert [text for call in calls for text in call.columns["text"]] == texts
    assert 2 <= len(calls) < 10
    assert all(len(codec.encode(call, "t").content) <= 10_000 for call in calls)


@pytest.mark.parametrize("codec", [grpc_codec, rest_codec])
def test_a_row_too_large_for_one_request_is_refused(codec):
    protocol = new_protocol(codec, max_message_bytes=10_000)
    calls, error = run(protocol.predict([row(text=b"x" * 10_000)]))
    assert calls == [] and isinstance(error, UserError)
    assert "max_message_bytes=10000" in str(error)


def test_no_rows_need_no_calls():
    assert run(new_protocol().predict([])) == ([], [])


TEXTS = ("score", "status", "text")


def generated(version=3, **changes):
    values = {"scores": [-1.0], "statuses": ["ok"], "texts": ["a cat"], **changes}
    return Outputs(version=version, probabilities=[], labels=[], **values)


def test_a_generator_is_not_asked_for_class_names():
    protocol = new_protocol()
    calls, _, prediction = predict(protocol, metadata(outputs=TEXTS), generated())
    assert calls == [MetadataCall, PredictCall] and prediction.text == "a cat"
    calls, _, prediction = predict(protocol, generated())
    assert calls == [PredictCall] and prediction.score == -1


@pytest.mark.parametrize(
    "changes",
    [{"texts": ["a", "b"]}, {"scores": []}, {"n_best": [["a"]], "n_best_scores": []}],
)
def test_texts_for_another_number_of_rows_are_an_error(changes):
    replies = [metadata(outputs=TEXTS), generated(**changes)]
    assert predict(new_protocol(), *replies)[2].code == "INTERNAL"
