from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from serving.server import metrics as metrics_module
from serving.server.metrics import Counter, Histogram, Metrics, exponential

SERVING = ":tensorflow:serving:"


def samples(page):
    """Returns {(name, (label, value), ...): number} of a page.

    The parser would append _total to the names of counters.
    """
    lines = [line for line in page.split("\n") if not line.endswith(" counter")]
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families("\n".join(lines))
        for sample in family.samples
    }


def test_the_buckets_of_a_latency_grow_by_1_8_from_10_microseconds():
    metrics = Metrics()
    labels = {"model_name": "m", "API": "predict", "entrypoint": "REST"}
    for microseconds in (5, 40.5, 1e12):
        metrics.request_latency.observe(microseconds, **labels)
    numbers = samples(metrics.render())

    def value(name, **limit):
        key = sorted({**labels, **limit}.items())
        return numbers[(f"{SERVING}request_latency_{name}", *key)]

    limits = ("10", "18", "32.4", "58.32", "104.976", "1.47476e+09", "+Inf")
    assert [value("bucket", le=limit) for limit in limits] == [1, 1, 1, 2, 2, 2, 3]
    assert (value("sum"), value("count")) == (1e12 + 45.5, 3)


def test_a_value_equal_to_a_limit_counts_above_it():
    histogram = Histogram("h", [], exponential(1.0, 2.0, 3))
    histogram.observe(2)
    counts = {"1": 0, "2": 0, "4": 1, "+Inf": 1}
    buckets = [f'h_bucket{{le="{limit}"}} {n}' for limit, n in counts.items()]
    lines = ["# TYPE h histogram", *buckets, "h_sum{} 2", "h_count{} 1"]
    assert histogram.lines() == lines


def test_the_page_has_each_metric_of_tf_serving_with_its_kind():
    kinds = {f.name: f.type for f in text_string_to_metric_families(Metrics().render())}
    session = f"{SERVING}batching_session:"
    assert {name: kinds[name] for name in kinds if name.startswith(":")} == {
        f"{session}queuing_latency": "histogram",
        f"{session}wrapped_run_count": "counter",
        f"{SERVING}model_warmup_latency": "histogram",
        f"{SERVING}request_count": "counter",
        # The parser removes _total from a counter's name.
        f"{SERVING}request_example_count": "counter",
        f"{SERVING}request_example_counts": "histogram",
        f"{SERVING}request_latency": "histogram",
        f"{SERVING}runtime_latency": "histogram",
    }


def test_each_metric_has_the_labels_of_tf_serving():
    metrics = Metrics()
    metrics.request_count.increment(model_name="x" * 2**20, status="OK")
    metrics.runtime_latency.observe(7, model_name="m", API="Predict", runtime="TF1")
    metrics.request_example_counts.observe(3, model="m")
    metrics.request_example_count_total.increment(3, model="m")
    metrics.model_warmup_latency.observe(9, model_path="/m/1", status="OK")
    metrics.queuing_latency.observe(250, thread_pool_name="batches")
    metrics.wrapped_run_count.increment()
    numbers = samples(metrics.render())
    session, pool = f"{SERVING}batching_session:", ("thread_pool_name", "batches")
    for key, number in {
        # A model name is truncated.
        (f"{SERVING}request_count", ("model_name", "x" * 256), ("status", "OK")): 1,
        (f"{SERVING}request_example_count_total", ("model", "m")): 3,
        (f"{SERVING}request_example_counts_sum", ("model", "m")): 3,
        (f"{session}wrapped_run_count",): 1,
        (f"{session}queuing_latency_bucket", ("le", "248.832"), pool): 0,
        (f"{session}queuing_latency_bucket", ("le", "298.598"), pool): 1,
    }.items():
        assert numbers[key] == number
    with pytest.raises(TypeError, match="has the labels model_name, status"):
        metrics.request_count.increment(model="m")


@given(st.text())
def test_any_label_survives_the_round_trip(value):
    counter = Counter("c", ["model_name"])
    counter.increment(model_name=value)
    assert not any("\n" in line for line in counter.lines())
    # The parser splits lines where Python does, the format only at \n.
    if value.isprintable():
        page = "\n".join(counter.lines()) + "\n"
        assert samples(page) == {("c", ("model_name", value)): 1}


def test_concurrent_increments_are_all_counted():
    metrics = Metrics()

    def count(_):
        for _ in range(5_000):
            metrics.request_count.increment(model_name="m", status="OK")
            metrics.request_example_counts.observe(1, model="m")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    numbers = samples(metrics.render())
    key = (f"{SERVING}request_count", ("model_name", "m"), ("status", "OK"))
    assert numbers[key] == 20_000
    assert numbers[f"{SERVING}request_example_counts_count", ("model", "m")] == 20_000


def test_the_number_of_label_sets_is_bounded(monkeypatch):
    monkeypatch.setattr(metrics_module, "_MAX_CELLS", 3)
    counter = Counter("c", ["model_name"])
    for i in [*range(10), 0]:
        counter.increment(model_name=f"m{i}")
    counts = {"m0": 2, "m1": 1, "m2": 1, "other": 7}
    lines = [f'c{{model_name="{name}"}} {count}' for name, count in counts.items()]
    assert counter.lines()[1:] == lines


def test_the_page_has_numbers_of_the_process():
    numbers = samples(Metrics().render())
    assert numbers[("process_resident_memory_bytes",)] > 1e6
    assert numbers[("process_cpu_seconds_total",)] > 0
    assert numbers[("process_open_fds",)] >= 3
    assert numbers[("process_start_time_seconds",)] > 1.7e9
