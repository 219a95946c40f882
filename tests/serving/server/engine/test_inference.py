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
from serving.server.engine.admission import WeightedSemaphore
from serving.server.engine.batching import BatchScheduler
from serving.server.engine.inference import (
    _classified,
    _regressed,
    classify,
    examples_in,
    multi_inference,
    regress,
)
from serving.server.engine.servable import Servable
from serving.server.errors import ServingError
from tests.serving.models import floats, save_shared

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
SPEC = {"name": "asked"}


def listed(*values):
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
    return {**SPEC, "signature_name": signature}


def ask_classes(servable, data, signature="classify"):
    request = classification_pb2.ClassificationRequest(
        model_spec=spec(signature), input=data
    )
    return classify(servable, request, Deadline(30))


def ask_values(servable, data, signature="regress"):
    request = regression_pb2.RegressionRequest(model_spec=spec(signature), input=data)
    return regress(servable, request, Deadline(30))


def ask_all(servable, data, *tasks):
    request = inference_pb2.MultiInferenceRequest(input=data)
    for signature, method in tasks:
        request.tasks.add(model_spec=spec(signature), method_name=method)
    return multi_inference(servable, request, Deadline(30))


def test_classes_and_scores_of_each_example(servable):
    response = ask_classes(servable, listed(-100, 100))
    low, high = response.result.classifications
    assert [one.label for one in low.classes] == ["low", "high"]
    assert [one.score for one in low.classes] == pytest.approx([1, 0])
    assert [one.score for one in high.classes] == pytest.approx([0, 1])
    answered = response.model_spec
    assert (answered.name, answered.version.value) == ("asked", 1)
    assert answered.signature_name == "classify"


def test_a_value_of_each_example(servable):
    response = ask_values(servable, listed(1, 5))
    assert [one.value for one in response.result.regressions] == [2.5, 4.5]


def test_features_of_the_context_are_in_every_example(servable):
    data = with_context(5, 2)
    assert examples_in(data) == 2
    response = ask_values(servable, data)
    assert [one.value for one in response.result.regressions] == [4.5, 4.5]


def test_several_tasks_answer_in_their_order_by_one_run(tmp_path):
    seen = []
    shared = Servable(
        "m",
        7,
        save_shared(tmp_path) / "1",
        room=WeightedSemaphore(9, "rows"),
        observe=lambda api, us: seen.append(api),
    )
    tasks = ("regress", REGRESS), ("classify", CLASSIFY)
    one, two = ask_all(shared, listed(5), *tasks).results
    shared.close()
    assert one.regression_result.regressions[0].value == 4.5
    assert two.classification_result.classifications[0].classes[0].score == 4.5
    assert [r.model_spec.signature_name for r in (one, two)] == ["regress", "classify"]
    assert one.model_spec.version.value == 7
    assert seen == ["MultiInference"]


def test_tasks_that_read_other_tensors_are_refused(servable):
    tasks = ("regress", REGRESS), ("classify", CLASSIFY)
    with pytest.raises(ServingError, match="^Input tensor must be the same for all S"):
        ask_all(servable, listed(5), *tasks)


@pytest.mark.parametrize(
    ("tasks", "text"),
    [
        ([("classify", CLASSIFY)] * 2, "Duplicate evaluation of signature: classify"),
        ([("other", CLASSIFY)], "Requested signature not found in model graph: other"),
        ([("classify", "x")], "Unsupported signature method_name: x"),
        ([("classify", REGRESS)], "Expected regression signature method_name to be"),
        ([], "at least one task"),
    ],
)
def test_tasks_that_cannot_be_asked_are_refused(servable, tasks, text):
    with pytest.raises(ServingError, match=text):
        ask_all(servable, listed(1), *tasks)


def test_tasks_of_several_models_are_refused(servable):
    request = inference_pb2.MultiInferenceRequest(input=listed(1))
    for name, text in (("a", ""), ("b", "must access the same model name"), ("", "")):
        request.tasks.add(model_spec={"name": name, "signature_name": "classify"})
        request.tasks[-1].method_name = CLASSIFY
        if text:
            with pytest.raises(ServingError, match=text):
                multi_inference(servable, request, Deadline(30))
            request.tasks[-1].model_spec.name = "a"
            request.tasks[-1].model_spec.signature_name = "x"
            del request.tasks[-1]
    with pytest.raises(ServingError, match="Found ModelSpec with an empty model name"):
        multi_inference(servable, request, Deadline(30))


@pytest.mark.parametrize("data", [input_pb2.Input(), listed(), with_context(1, 0)])
def test_no_example_at_all_is_refused(servable, data):
    for ask in (ask_classes, ask_values):
        with pytest.raises(ServingError, match=r"^Input is empty\.$"):
            ask(servable, data)


def test_a_signature_of_another_method_is_refused(servable):
    with pytest.raises(ServingError, match="Was: tensorflow/serving/predict$"):
        ask_classes(servable, listed(1), "serving_default")
    with pytest.raises(ServingError, match="Was: tensorflow/serving/classify$"):
        ask_values(servable, listed(1), "classify")


@pytest.mark.parametrize(
    ("classes", "scores", "text"),
    [
        (None, np.ones(2, "f4"), r"\[batch_size num_classes\] but got \[2\]"),
        (
            np.ones((2, 2), "f4"),
            None,
            "Expected classes Tensor of DT_STRING. Got: DT_F",
        ),
        (None, np.ones((2, 2)), "Expected scores Tensor of DT_FLOAT. Got: DT_FLOAT64"),
        (None, np.ones((3, 2), "f4"), "Expected scores output batch size of 2. Got: 3"),
        (np.full((2, 3), b"a", object), np.ones((2, 2), "f4"), "Got 3 vs. 2"),
    ],
)
def test_outputs_that_are_no_classes_are_refused(classes, scores, text):
    arrays = {"classes": classes, "scores": scores}
    arrays = {key: array for key, array in arrays.items() if array is not None}
    with pytest.raises(ServingError, match=text):
        _classified(arrays, 2)


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
        _regressed(array, 2)


def test_values_in_a_column_are_values():
    found = _regressed(np.array([[1.5], [2.5]], "f4"), 2)
    assert [one.value for one in found.regressions] == [1.5, 2.5]


def test_more_examples_than_may_run_are_refused_before_one_is_serialized(
    servable, halves, monkeypatch
):
    monkeypatch.setattr(inference, "_serialized", None)
    many = listed(*[1] * 101)
    for ask in (ask_classes, ask_values):
        with pytest.raises(ServingError, match="has 101 rows, and the limit is 100"):
            ask(servable, many)
    scheduler = BatchScheduler(Batching(max_batch_size=8, num_batch_threads=1))
    batched = Servable(
        "m", 1, halves / "1", room=WeightedSemaphore(9, "rows"), scheduler=scheduler
    )
    with pytest.raises(ServingError, match="Task size 101 is larger than maximum"):
        ask_values(batched, many)
    scheduler.close()
    batched.close()
