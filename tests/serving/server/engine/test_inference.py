from contextlib import contextmanager

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest
from tensorflow_serving.apis.input_pb2 import Input
from tensorflow_serving.apis.regression_pb2 import RegressionRequest

from serving.server.configs import Batching
from serving.server.deadline import Deadline
from serving.server.engine import inference
from serving.server.engine.batching import BatchScheduler
from serving.server.errors import ServingError
from tests.serving.models import floats, save_shared
from tests.serving.server.assertions import load_servable

INVALID = grpc.StatusCode.INVALID_ARGUMENT
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


@contextmanager
def refusal(text, code=INVALID):
    with pytest.raises(ServingError, match=text) as caught:
        yield
    assert caught.value.code is code


def example_list(*values):
    return Input(example_list={"examples": map(floats, values)})


def with_context(context, count):
    examples = {"context": floats(context), "examples": [{}] * count}
    return Input(example_list_with_context=examples)


def spec(signature="", name="model"):
    return {"name": name, "signature_name": signature}


def run_classify(servable, data, signature="classify"):
    request = ClassificationRequest(model_spec=spec(signature), input=data)
    return inference.classify(servable, request, Deadline(30))


def run_regress(servable, data, signature="regress"):
    request = RegressionRequest(model_spec=spec(signature), input=data)
    return inference.regress(servable, request, Deadline(30))


def run_tasks(servable, data, *tasks):
    request = MultiInferenceRequest(input=data)
    for signature, method, *name in tasks:
        request.tasks.add(model_spec=spec(signature, *name), method_name=method)
    return inference.multi_inference(servable, request, Deadline(30))


def test_classify_returns_labels_and_scores_per_example(servable):
    response = run_classify(servable, example_list(-100, 100))
    low, high = response.result.classifications
    assert [item.label for item in low.classes] == ["low", "high"]
    assert [item.score for item in low.classes] == pytest.approx([1, 0])
    assert [item.score for item in high.classes] == pytest.approx([0, 1])
    model = response.model_spec
    assert (model.name, model.version.value) == ("model", 1)
    assert model.signature_name == "classify"


def test_regress_returns_a_value_per_example_with_features_of_the_context(servable):
    def values(data):
        return [item.value for item in run_regress(servable, data).result.regressions]

    assert values(example_list(1, 5)) == [2.5, 4.5]
    assert inference.count_examples(with_context(5, 2)) == 2
    assert values(with_context(5, 2)) == [4.5, 4.5]


def test_several_tasks_run_at_once_and_keep_their_order(tmp_path):
    calls = []
    shared = load_servable(
        save_shared(tmp_path) / "1", observe=lambda api, us: calls.append(api)
    )
    tasks = ("regress", REGRESS), ("classify", CLASSIFY)
    one, two = run_tasks(shared, example_list(5), *tasks).results
    shared.close()
    assert one.regression_result.regressions[0].value == 4.5
    assert two.classification_result.classifications[0].classes[0].score == 4.5
    assert [r.model_spec.signature_name for r in (one, two)] == ["regress", "classify"]
    assert one.model_spec.version.value == 1
    assert calls == ["MultiInference"]


@pytest.mark.parametrize(
    ("tasks", "text"),
    [
        ([("regress", REGRESS), ("classify", CLASSIFY)], "same for all Signatures"),
        ([("classify", CLASSIFY)] * 2, "Duplicate evaluation of signature: classify"),
        ([("other", CLASSIFY)], "not found in model graph: other"),
        ([("classify", "x")], "Unsupported signature method_name: x"),
        ([("classify", REGRESS)], "Expected regression signature method_name to be"),
        ([("classify", CLASSIFY), ("regress", REGRESS, "b")], "the same model name"),
        ([("classify", CLASSIFY), ("regress", REGRESS, "")], "empty model name"),
        ([], "at least one task"),
    ],
)
def test_invalid_tasks_are_refused(servable, tasks, text):
    unknown = grpc.StatusCode.UNIMPLEMENTED
    with refusal(text, unknown if text.startswith("Unsupported") else INVALID):
        run_tasks(servable, example_list(1), *tasks)


@pytest.mark.parametrize("data", [Input(), example_list(), with_context(1, 0)])
@pytest.mark.parametrize("run", [run_classify, run_regress])
def test_an_input_without_examples_is_refused(servable, run, data):
    with refusal(r"^Input is empty\.$"):
        run(servable, data)


def test_a_signature_that_is_unknown_or_of_another_method_is_refused(servable):
    for run in (run_classify, run_regress):
        with refusal("No signature was found .*name: S$"):
            run(servable, example_list(1), "S")
    with refusal("Was: tensorflow/serving/predict$"):
        run_classify(servable, example_list(1), "serving_default")
    with refusal("Was: tensorflow/serving/classify$"):
        run_regress(servable, example_list(1), "classify")


TWO, MATRIX = np.ones(2, "f4"), np.ones((2, 2), "f4")
NAMES = np.full((2, 3), b"a", object)


@pytest.mark.parametrize(
    ("convert", "arrays", "text"),
    [
        (inference.to_classification_result, {"scores": TWO}, r"but got \[2\]"),
        (
            inference.to_classification_result,
            {"classes": MATRIX},
            "DT_STRING. Got: DT_FLOAT32",
        ),
        (
            inference.to_classification_result,
            {"scores": MATRIX.astype("f8")},
            "Got: DT_FLOAT64",
        ),
        (
            inference.to_classification_result,
            {"scores": np.ones((3, 2), "f4")},
            "of 2. Got: 3",
        ),
        (
            inference.to_classification_result,
            {"classes": NAMES, "scores": MATRIX},
            "3 vs. 2",
        ),
        (inference.to_regression_result, MATRIX, r"\[batch_size, 1\] but got \[2,2\]"),
        (
            inference.to_regression_result,
            np.ones(3, "f4"),
            "output batch size: 2 vs. 3",
        ),
        (
            inference.to_regression_result,
            TWO.astype("f8"),
            "of DT_FLOAT.  Got: DT_FLOAT64",
        ),
    ],
)
def test_outputs_that_are_no_results_are_refused(convert, arrays, text):
    with refusal(text):
        convert(arrays, 2)


def test_values_in_a_column_are_values():
    result = inference.to_regression_result(np.array([[1.5], [2.5]], "f4"), 2)
    assert [item.value for item in result.regressions] == [1.5, 2.5]


def test_too_many_examples_are_refused_before_they_are_serialized(
    servable, halves, monkeypatch
):
    monkeypatch.setattr(inference, "serialize_examples", None)
    many = example_list(*[1] * 101)
    for run in (run_classify, run_regress):
        with refusal("has 101 rows, and the limit is 100"):
            run(servable, many)
    scheduler = BatchScheduler(Batching(max_batch_size=8, num_batch_threads=1))
    batched = load_servable(halves / "1", scheduler=scheduler)
    with refusal("Task size 101 is larger than maximum"):
        run_regress(batched, many)
    scheduler.close()
    batched.close()
