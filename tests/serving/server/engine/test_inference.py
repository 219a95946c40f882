import numpy as np
import pytest
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    regression_pb2,
)

from serving.server.configs import Batching
from serving.server.deadline import Deadline
from serving.server.engine import inference
from serving.server.engine.batching import BatchScheduler
from serving.server.engine.inference import (
    classify,
    count_examples,
    multi_inference,
    regress,
    to_classification_result,
    to_regression_result,
)
from serving.server.errors import ServingError
from tests.serving.models import floats, save_shared
from tests.serving.server.assertions import load_servable

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


def example_list(*values):
    examples = input_pb2.ExampleList(examples=[floats(value) for value in values])
    return input_pb2.Input(example_list=examples)


def with_context(context, count):
    empty = floats(0)
    empty.features.feature.clear()
    examples = input_pb2.ExampleListWithContext(
        context=floats(context), examples=[empty] * count
    )
    return input_pb2.Input(example_list_with_context=examples)


def spec(signature=""):
    return {"name": "model", "signature_name": signature}


def run_classify(servable, data, signature="classify"):
    request = classification_pb2.ClassificationRequest(
        model_spec=spec(signature), input=data
    )
    return classify(servable, request, Deadline(30))


def run_regress(servable, data, signature="regress"):
    request = regression_pb2.RegressionRequest(model_spec=spec(signature), input=data)
    return regress(servable, request, Deadline(30))


def run_tasks(servable, data, *tasks):
    request = inference_pb2.MultiInferenceRequest(input=data)
    for signature, method in tasks:
        request.tasks.add(model_spec=spec(signature), method_name=method)
    return multi_inference(servable, request, Deadline(30))


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
    assert count_examples(with_context(5, 2)) == 2
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
        ([], "at least one task"),
    ],
)
def test_invalid_tasks_are_refused(servable, tasks, text):
    with pytest.raises(ServingError, match=text):
        run_tasks(servable, example_list(1), *tasks)


@pytest.mark.parametrize(
    ("name", "text"),
    [("b", "must access the same model name"), ("", "empty model name")],
)
def test_tasks_of_several_models_or_none_are_refused(servable, name, text):
    request = inference_pb2.MultiInferenceRequest(input=example_list(1))
    for model in ("a", name):
        request.tasks.add(
            model_spec={"name": model, "signature_name": "classify"},
            method_name=CLASSIFY,
        )
    with pytest.raises(ServingError, match=text):
        multi_inference(servable, request, Deadline(30))


@pytest.mark.parametrize(
    "data", [input_pb2.Input(), example_list(), with_context(1, 0)]
)
@pytest.mark.parametrize("run", [run_classify, run_regress])
def test_an_input_without_examples_is_refused(servable, run, data):
    with pytest.raises(ServingError, match=r"^Input is empty\.$"):
        run(servable, data)


def test_a_signature_of_another_method_is_refused(servable):
    with pytest.raises(ServingError, match="Was: tensorflow/serving/predict$"):
        run_classify(servable, example_list(1), "serving_default")
    with pytest.raises(ServingError, match="Was: tensorflow/serving/classify$"):
        run_regress(servable, example_list(1), "classify")


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"scores": np.ones(2, "f4")}, r"but got \[2\]"),
        ({"classes": np.ones((2, 2), "f4")}, "classes Tensor of DT_STRING. Got: DT_F"),
        ({"scores": np.ones((2, 2))}, "scores Tensor of DT_FLOAT. Got: DT_FLOAT64"),
        ({"scores": np.ones((3, 2), "f4")}, "batch size of 2. Got: 3"),
        (
            {"classes": np.full((2, 3), b"a", object), "scores": np.ones((2, 2), "f4")},
            "Got 3 vs. 2",
        ),
    ],
)
def test_outputs_that_are_no_classes_are_refused(arrays, text):
    with pytest.raises(ServingError, match=text):
        to_classification_result(arrays, 2)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.ones((2, 2), "f4"), r"\[batch_size, 1\] but got \[2,2\]"),
        (np.ones(3, "f4"), "did not match output batch size: 2 vs. 3"),
        (np.ones(2), "Expected output Tensor of DT_FLOAT.  Got: DT_FLOAT64"),
    ],
)
def test_outputs_that_are_no_values_are_refused(array, text):
    with pytest.raises(ServingError, match=text):
        to_regression_result(array, 2)


def test_values_in_a_column_are_values():
    result = to_regression_result(np.array([[1.5], [2.5]], "f4"), 2)
    assert [item.value for item in result.regressions] == [1.5, 2.5]


def test_too_many_examples_are_refused_before_they_are_serialized(
    servable, halves, monkeypatch
):
    monkeypatch.setattr(inference, "serialize_examples", None)
    many = example_list(*[1] * 101)
    for run in (run_classify, run_regress):
        with pytest.raises(ServingError, match="has 101 rows, and the limit is 100"):
            run(servable, many)
    scheduler = BatchScheduler(Batching(max_batch_size=8, num_batch_threads=1))
    batched = load_servable(halves / "1", scheduler=scheduler)
    with pytest.raises(ServingError, match="Task size 101 is larger than maximum"):
        run_regress(batched, many)
    scheduler.close()
    batched.close()
