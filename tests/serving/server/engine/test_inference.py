from types import SimpleNamespace

import grpc
import numpy as np
import pytest
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest
from tensorflow_serving.apis.input_pb2 import Input
from tensorflow_serving.apis.regression_pb2 import RegressionRequest

from serving.server.configs import Batching
from serving.server.deadline import Deadline
from serving.server.engine import inference
from serving.server.engine.batching import BatchScheduler
from tests.serving.models import floats, save_shared
from tests.serving.server.assertions import load_servable, serving_error

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
METHODS = {
    "classify": (inference.classify, ClassificationRequest),
    "regress": (inference.regress, RegressionRequest),
}
BOTH = ("regress", REGRESS), ("classify", CLASSIFY)


def refusal(*call):
    error = serving_error(*call)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    return error.message


def example_list(*values):
    return Input(example_list={"examples": map(floats, values)})


def with_context(context, *examples):
    lists = {"context": floats(context), "examples": examples}
    return Input(example_list_with_context=lists)


def run(servable, method, data, signature=None):
    call, request = METHODS[method]
    spec = {"name": "model", "signature_name": signature or method}
    return call(servable, request(model_spec=spec, input=data), Deadline(30))


def run_tasks(servable, data, *tasks):
    request = MultiInferenceRequest(input=data)
    for signature, method, *name in tasks:
        spec = {"name": "".join(name or ["model"]), "signature_name": signature}
        request.tasks.add(model_spec=spec, method_name=method)
    return inference.multi_inference(servable, request, Deadline(30))


def test_classify_returns_labels_and_scores_per_example(servable):
    response = run(servable, "classify", example_list(-100, 100))
    low, high = response.result.classifications
    assert [item.label for item in low.classes] == ["low", "high"]
    assert [item.score for item in low.classes] == pytest.approx([1, 0])
    assert [item.score for item in high.classes] == pytest.approx([0, 1])
    assert response.model_spec.signature_name == "classify"


@pytest.mark.parametrize(
    ("data", "values"),
    [(example_list(1, 5), [2.5, 4.5]), (with_context(5, {}, floats(1)), [4.5, 2.5])],
)
def test_regress_returns_a_value_per_example_with_the_context(servable, data, values):
    result = run(servable, "regress", data).result
    assert [item.value for item in result.regressions] == values
    assert inference.count_examples(data) == 2
    sizes = map(len, inference.serialize_examples(data))
    assert inference.serialized_bytes(data) == 2 * sum(sizes)  # two copies


@pytest.mark.parametrize("has_shared_input", [True, False])
def test_several_tasks_run_at_once_and_keep_their_order(
    tmp_path, halves, has_shared_input
):
    calls, path = [], save_shared(tmp_path) if has_shared_input else halves
    servable = load_servable(path / "1", observe=lambda api, us: calls.append(api))
    one, two = run_tasks(servable, example_list(5), *BOTH).results
    servable.close()
    assert one.regression_result.regressions[0].value == 4.5
    score = two.classification_result.classifications[0].classes[-1].score
    assert score == pytest.approx(4.5 if has_shared_input else 0.989, abs=1e-3)
    assert [r.model_spec.signature_name for r in (one, two)] == ["regress", "classify"]
    assert one.model_spec.version.value == 1
    assert calls == ["MultiInference"]


@pytest.mark.parametrize(
    ("tasks", "text"),
    [
        ([("classify", CLASSIFY)] * 2, "Duplicate evaluation of signature: classify"),
        ([("other", CLASSIFY)], "not found in model graph: other"),
        ([("classify", REGRESS)], "Expected one output Tensor."),
        ([BOTH[0], ("classify", CLASSIFY, "b")], "the same model name"),
        ([BOTH[0], ("classify", CLASSIFY, "")], "empty model name"),
        ([], "at least one task"),
        ([("classify", "x")], "Unsupported signature method_name: x"),
    ],
)
def test_invalid_tasks_are_refused(servable, tasks, text):
    error = serving_error(run_tasks, servable, example_list(1), *tasks)
    code = "UNIMPLEMENTED" if "Unsupported" in text else "INVALID_ARGUMENT"
    assert error.code.name == code and text in error.message


@pytest.mark.parametrize("data", [Input(), example_list(), with_context(1)])
@pytest.mark.parametrize("method", METHODS)
def test_an_input_without_examples_is_refused(servable, method, data):
    assert refusal(run, servable, method, data) == "Input is empty."
    assert inference.serialized_bytes(data) == 0


@pytest.mark.parametrize(
    ("method", "inputs", "outputs", "text"),
    [
        ("classify", "inputs x", "scores", "Expected one input Tensor."),
        ("classify", "inputs", "a b c", "one or two output Tensors, found 3"),
        ("classify", "x", "scores", "No classification inputs found in SignatureD"),
        ("classify", "inputs", "y", 'contain at least one of "classes" or "scores"'),
        ("regress", "inputs", "outputs y", "Expected one output Tensor."),
        ("regress", "x", "outputs", "No regression inputs found in SignatureDef: "),
        ("regress", "inputs", "y", "No regression outputs found in SignatureDef: "),
    ],
)
def test_a_signature_that_is_unknown_or_does_not_fit_is_refused(
    method, inputs, outputs, text
):
    signature = SignatureDef(
        inputs={key: TensorInfo(name=key) for key in inputs.split()},
        outputs={key: TensorInfo(name=key) for key in outputs.split()},
    )
    servable = SimpleNamespace(signatures={"s": signature})
    assert text in refusal(run, servable, method, Input(), "s")
    text = "No signature was found with the name: z"
    assert refusal(run, servable, method, Input(), "z") == text


TO_CLASSES = inference.to_classification_result
TO_VALUES = inference.to_regression_result
TWO, MATRIX, LONG = np.ones(2, "f4"), np.ones((2, 2), "f4"), np.ones((3, 2), "f4")
NAMES = np.full((2, 3), b"a", object)


@pytest.mark.parametrize(
    ("convert", "arrays", "text"),
    [
        (TO_CLASSES, {"scores": TWO}, "[batch_size num_classes] but got [2]"),
        (TO_CLASSES, {"classes": MATRIX}, "classes Tensor of DT_STRING. Got: DT_FLOAT"),
        (TO_CLASSES, {"scores": MATRIX > 0}, "scores Tensor of DT_FLOAT. Got: DT_BOOL"),
        (TO_CLASSES, {"scores": LONG}, "scores output batch size of 2. Got: 3"),
        (TO_CLASSES, {"classes": NAMES, "scores": MATRIX}, "Got 3 vs. 2"),
        (TO_VALUES, MATRIX, "either [batch_size] or [batch_size, 1] but got [2,2]"),
        (TO_VALUES, LONG[:, 0], "did not match output batch size: 2 vs. 3"),
        (TO_VALUES, TWO.astype("f8"), "Tensor of DT_FLOAT.  Got: DT_DOUBLE"),
    ],
)
def test_outputs_that_are_no_results_are_refused(convert, arrays, text):
    assert refusal(convert, arrays, 2).endswith(text)


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_values_are_a_vector_or_a_column(shape):
    regressions = TO_VALUES(np.array([1.5, 2.5], "f4").reshape(shape), 2).regressions
    assert [item.value for item in regressions] == [1.5, 2.5]


def test_too_many_examples_are_refused_before_they_are_serialized(
    servable, halves, monkeypatch
):
    monkeypatch.setattr(inference, "serialize_examples", None)
    many = example_list(*[1] * 101)
    text = "The request has 101 rows, and the limit is 100"
    assert refusal(run, servable, "classify", many) == text
    scheduler = BatchScheduler(Batching(max_batch_size=8, num_batch_threads=1))
    batched = load_servable(halves / "1", scheduler=scheduler)
    assert "Task size 101 is larger than" in refusal(run, batched, "regress", many)
    scheduler.close()
    batched.close()
