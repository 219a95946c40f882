import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from serving.server import metrics as metrics_module
from serving.server.metrics import Counter, Histogram, Metrics, exponential

SERVING = ":tensorflow:serving:"


def samples(page):
    """Returns {(name, (label, value), ...): number} of a page.

    The parser appends _total to the names of what it knows for counters.
    """
    lines = [line for line in page.split("\n") if not line.endswith(" counter")]
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families("\n".join(lines))
        for sample in family.samples
    }


def test_a_counter_has_the_name_and_the_labels_of_tf_serving():
    metrics = Metrics()
    metrics.request_count.increment(model_name="m", status="OK")
    metrics.request_count.increment(model_name="m", status="OK")
    metrics.request_count.increment(model_name="m", status="NOT_FOUND")
    page = metrics.render()
    assert f"# TYPE {SERVING}request_count counter\n" in page
    assert f'{SERVING}request_count{{model_name="m",status="OK"}} 2\n' in page
    assert f'{SERVING}request_count{{model_name="m",status="NOT_FOUND"}} 1\n' in page


def test_the_buckets_of_a_latency_grow_by_1_8_from_10_microseconds():
    metrics = Metrics()
    labels = {"model_name": "m", "API": "predict", "entrypoint": "REST"}
    metrics.request_latency.observe(5, **labels)
    metrics.request_latency.observe(40.5, **labels)
    metrics.request_latency.observe(1e12, **labels)
    page = metrics.render()
    read = [
        (sample.labels["le"], sample.value)
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == f"{SERVING}request_latency_bucket"
    ]
    assert read[:5] == [("10", 1), ("18", 1), ("32.4", 1), ("58.32", 2), ("104.976", 2)]
    assert read[32] == ("1.47476e+09", 2)
    assert read[33:] == [("+Inf", 3)]
    key = tuple(sorted(labels.items()))
    assert samples(page)[(f"{SERVING}request_latency_sum", *key)] == 1e12 + 45.5
    assert samples(page)[(f"{SERVING}request_latency_count", *key)] == 3


def test_a_value_that_equals_a_limit_is_counted_above_it_as_tensorflow_does():
    histogram = Histogram("h", [], exponential(1.0, 2.0, 3))
    histogram.observe(2)
    assert histogram.lines() == [
        "# TYPE h histogram",
        'h_bucket{le="1"} 0',
        'h_bucket{le="2"} 0',
        'h_bucket{le="4"} 1',
        'h_bucket{le="+Inf"} 1',
        "h_sum{} 2",
        "h_count{} 1",
    ]


def test_the_page_names_each_metric_of_tf_serving_with_its_kind():
    kinds = {f.name: f.type for f in text_string_to_metric_families(Metrics().render())}
    session = f"{SERVING}batching_session:"
    assert {name: kinds[name] for name in kinds if name.startswith(":")} == {
        f"{session}queuing_latency": "histogram",
        f"{session}wrapped_run_count": "counter",
        f"{SERVING}model_warmup_latency": "histogram",
        f"{SERVING}request_count": "counter",
        # The parser takes _total off a counter's name.
        f"{SERVING}request_example_count": "counter",
        f"{SERVING}request_example_counts": "histogram",
        f"{SERVING}request_latency": "histogram",
        f"{SERVING}runtime_latency": "histogram",
    }


def test_each_metric_takes_the_labels_of_tf_serving():
    metrics = Metrics()
    metrics.runtime_latency.observe(7, model_name="m", API="Predict", runtime="TF1")
    metrics.request_example_counts.observe(3, model="m")
    metrics.request_example_count_total.increment(3, model="m")
    metrics.model_warmup_latency.observe(9, model_path="/m/1", status="OK")
    metrics.queuing_latency.observe(250, thread_pool_name="batches")
    metrics.wrapped_run_count.increment()
    read = samples(metrics.render())
    session = f"{SERVING}batching_session:"
    assert read[(f"{SERVING}request_example_count_total", ("model", "m"))] == 3
    assert read[(f"{SERVING}request_example_counts_sum", ("model", "m"))] == 3
    assert read[(f"{session}wrapped_run_count",)] == 1
    pool = ("thread_pool_name", "batches")
    assert read[(f"{session}queuing_latency_bucket", ("le", "248.832"), pool)] == 0
    assert read[(f"{session}queuing_latency_bucket", ("le", "298.598"), pool)] == 1


def test_wrong_labels_are_an_error():
    with pytest.raises(TypeError, match="has the labels model_name, status"):
        Metrics().request_count.increment(model="m")


@given(st.text())
def test_any_label_is_read_back_as_it_was(value):
    counter = Counter("c", ["model_name"])
    counter.increment(model_name=value)
    # The parser splits lines where Python does, the format only at \n.
    lines = [line for line in counter.lines() if "\n" in line]
    assert not lines
    if value.isprintable():
        page = "\n".join(counter.lines()) + "\n"
        assert samples(page) == {("c", ("model_name", value)): 1}


def test_no_count_is_lost_between_threads():
    metrics = Metrics()

    def count():
        for _ in range(5_000):
            metrics.request_count.increment(model_name="m", status="OK")
            metrics.request_example_counts.observe(1, model="m")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read = samples(metrics.render())
    key = (f"{SERVING}request_count", ("model_name", "m"), ("status", "OK"))
    assert read[key] == 20_000
    assert read[(f"{SERVING}request_example_counts_count", ("model", "m"))] == 20_000


def test_names_that_clients_make_up_take_no_more_memory_than_a_bounded_number(
    monkeypatch,
):
    monkeypatch.setattr(metrics_module, "_MOST_CELLS", 3)
    counter = Counter("c", ["model_name"])
    for i in range(10):
        counter.increment(model_name=f"m{i}")
    counter.increment(model_name="m0")
    assert counter.lines()[1:] == [
        'c{model_name="m0"} 2',
        'c{model_name="m1"} 1',
        'c{model_name="m2"} 1',
        'c{model_name="other"} 7',
    ]


def test_the_process_says_its_own_numbers():
    read = samples(Metrics().render())
    assert read[("process_resident_memory_bytes",)] > 1e6
    assert read[("process_cpu_seconds_total",)] > 0
    assert read[("process_open_fds",)] >= 3
    assert read[("process_start_time_seconds",)] > 1.7e9
