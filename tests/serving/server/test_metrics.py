from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from serving.server import metrics as metrics_module
from serving.server.metrics import Counter, Histogram, Metrics, exponential

# Some lines of the page, without the prefix of names.
PAGE = """batching_session:queuing_latency_bucket{thread_pool_name="p",le="248.832"} 0
batching_session:queuing_latency_bucket{thread_pool_name="p",le="298.598"} 1
# TYPE batching_session:wrapped_run_count counter
batching_session:wrapped_run_count{} 1
model_warmup_latency_sum{model_path="/m/1",status="OK"} 9
request_count{model_name="m",status="OK"} 1
request_example_count_total{model="m"} 3
# TYPE request_example_counts histogram
request_example_counts_sum{model="m"} 3
request_latency_bucket{model_name="m",API="predict",entrypoint="REST",le="32.4"} 0
request_latency_bucket{model_name="m",API="predict",entrypoint="REST",le="58.32"} 1
runtime_latency_bucket{model_name="m",API="Predict",runtime="TF1",le="1.47476e+09"} 1
""".splitlines()


def counts(metric):
    """Returns {first label: number} of a counter, as Prometheus reads it."""
    lines = metric.lines()[1:]  # for a counter the parser would append _total
    families = text_string_to_metric_families("\n".join(lines))
    samples = [sample for family in families for sample in family.samples]
    return {next(iter(s.labels.values())): s.value for s in samples}


def test_a_value_equal_to_a_limit_counts_above_it():
    histogram = Histogram("h", [], exponential(1.0, 2.0, 3))
    histogram.observe(2)
    expected = {'h_bucket{le="1"}': 0, 'h_bucket{le="2"}': 0, 'h_bucket{le="4"}': 1}
    expected |= {'h_bucket{le="+Inf"}': 1, "h_sum{}": 2, "h_count{}": 1}
    lines = [f"{name} {number}" for name, number in expected.items()]
    assert histogram.lines() == ["# TYPE h histogram", *lines]


def test_the_page_has_the_metrics_of_tf_serving_and_of_the_process():
    metrics = Metrics()
    metrics.request_count.increment(model_name="m", status="OK")
    labels = {"model_name": "m", "API": "predict", "entrypoint": "REST"}
    metrics.request_latency.observe(40.5, **labels)
    metrics.runtime_latency.observe(7, model_name="m", API="Predict", runtime="TF1")
    metrics.request_example_counts.observe(3, model="m")
    metrics.request_example_count_total.increment(3, model="m")
    metrics.model_warmup_latency.observe(9, model_path="/m/1", status="OK")
    metrics.queuing_latency.observe(250, thread_pool_name="p")
    metrics.wrapped_run_count.increment()
    text = metrics.render()
    assert list(text_string_to_metric_families(text))
    lines = text.replace(":tensorflow:serving:", "").splitlines()
    assert [line for line in lines if line in PAGE] == PAGE
    numbers = [float(line.split()[1]) for line in lines if line.startswith("process_")]
    cpu_s, open_files, memory_bytes, start_s = numbers
    assert cpu_s > 0 and open_files >= 3 and memory_bytes > 1e6 and start_s > 1.7e9


def test_other_labels_are_refused():
    with pytest.raises(TypeError, match="has the labels model_name, status"):
        Metrics().request_count.increment(model="m")


@given(st.text())
def test_any_label_survives_the_round_trip(value):
    counter = Counter("c", ["model_name"])
    counter.increment(model_name=value)
    assert not any("\n" in line for line in counter.lines())
    # The parser splits lines where Python does, the format only at \n.
    if value.isprintable():
        assert counts(counter) == {value: 1}


def test_concurrent_increments_are_all_counted():
    counter = Counter("c", ["name"])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: counter.increment(name="m"), range(20_000)))
    assert counts(counter) == {"m": 20_000}


def test_the_size_of_a_metric_is_bounded(monkeypatch):
    monkeypatch.setattr(metrics_module, "_MAX_CELLS", 3)
    counter = Counter("c", ["model_path"])
    for path in ["x" * 2**20, *"abcdefa"]:
        counter.increment(model_path=path)
    assert counts(counter) == {"x" * 256: 1, "a": 2, "b": 1, "other": 4}


def test_unknown_names_do_not_hide_models():
    counter = Metrics().request_count
    unknown = [f"unknown {i}" for i in range(150)]
    for name in ["late", *unknown]:
        counter.increment(model_name=name, status="NOT_FOUND")
    for name in ("late", "new"):
        counter.add_model(name)
    for name in ("late", "new", unknown[0], "another"):
        counter.increment(model_name=name, status="NOT_FOUND")
    result = counts(counter)
    assert [result[name] for name in ("late", "new", unknown[0])] == [2, 1, 2]
    # "late" has left its place to another unknown name.
    assert result["other"] == 51 and result["another"] == 1 and len(result) == 103
