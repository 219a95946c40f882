"""Prometheus' configuration by its own promtool, alerts on made-up series, Grafana."""

import json
import re
import subprocess

import pytest
import yaml

from tests.serving.deploy.files import DEPLOY, program

PROMETHEUS = DEPLOY / "prometheus"
ALERTS = (PROMETHEUS / "alerts.yml").read_text()
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/mmkeras.json").read_text())
# Source: TensorFlow Serving 2.16.1, with "/" as ":". {name: its labels}
COUNTERS = {
    "request_count": {"model_name", "status"},
    "request_example_count_total": {"model"},
}
HISTOGRAMS = {
    "request_latency": {"model_name", "API", "entrypoint"},
    "runtime_latency": {"model_name", "API", "runtime"},
    "request_example_counts": {"model"},
    "model_warmup_latency": {"model_path", "status"},
    "batching_session:queuing_latency": {"thread_pool_name"},
}
# Of Prometheus itself, the blackbox exporter and cAdvisor.
OTHERS = {
    "up": {"job", "instance"},
    "probe_success": {"job", "model_name"},
    "container_memory_working_set_bytes": {"pod", "container"},
}
FUNCTIONS = {"sum", "by", "rate", "histogram_quantile"}


def known():
    """{metric: labels} of all that can be asked for."""
    prefix = ":tensorflow:serving:"
    found = {f"{prefix}{name}": labels for name, labels in COUNTERS.items()}
    for name, labels in HISTOGRAMS.items():
        found[f"{prefix}{name}_bucket"] = labels | {"le"}
        found[f"{prefix}{name}_sum"] = found[f"{prefix}{name}_count"] = labels
    return found | OTHERS


def metrics_in(query):
    """Names of metrics in PromQL that uses the FUNCTIONS above."""
    bare = re.sub(r'"[^"]*"|\[[^]]*\]|\bby \([^)]*\)', " ", query)
    bare = re.sub(r"\{[^}]*\}", " ", bare)
    words = re.findall(r"[a-zA-Z_:][\w:]*", re.sub(r"\b\d[\w.]*", " ", bare))
    return set(words) - FUNCTIONS


def labels_in(query):
    bare = re.sub(r'"[^"]*"', '""', query)
    grouped = re.findall(r"\bby \(([^)]*)\)", bare)
    matched = re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", bare)
    return {word.strip() for group in grouped for word in group.split(",")} | {*matched}


def check(query):
    """Asserts that metrics are there and have the labels that are asked of them."""
    names = metrics_in(query)
    assert names, query
    assert names <= set(known()), names - set(known())
    labels = set().union(*(known()[name] for name in names))
    assert labels_in(query) <= labels, labels_in(query) - labels


def queries():
    """[(panel, query)] of the dashboard; Grafana's variables filled in."""
    return [
        (
            panel["title"],
            target["expr"].replace("$__rate_interval", "1m").replace("$model", ".*"),
        )
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    ]


@pytest.fixture(scope="module")
def promtool():
    found = program("promtool", "which comes with Debian's package prometheus")

    def run(*arguments):
        done = subprocess.run(
            [found, *map(str, arguments)], capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.parametrize(("panel", "query"), queries())
def test_panels_ask_for_what_tf_serving_has(panel, query):
    check(query)


@pytest.mark.parametrize("rule", yaml.safe_load(ALERTS)["groups"][0]["rules"])
def test_alerts_ask_for_what_tf_serving_has(rule):
    check(rule["expr"])
    assert rule["annotations"]["summary"]


@pytest.mark.parametrize(
    "query",
    [
        "rate(:tensorflow:serving:requests_count[5m])",
        "rate(tensorflow_serving_request_count[5m])",
        'rate(:tensorflow:serving:request_count{model="m"}[5m])',
        "sum by (model_name) (:tensorflow:serving:request_example_counts_sum)",
        "sum by (le) (:tensorflow:serving:request_latency_sum)",
    ],
)
def test_a_metric_or_label_that_is_not_there_is_found(query):
    with pytest.raises(AssertionError):
        check(query)


def test_the_dashboard_shows_all_that_the_server_measures():
    shown = {name for _, query in queries() for name in metrics_in(query)}
    for name in ("request_count", *HISTOGRAMS):
        metric = f":tensorflow:serving:{name}"
        assert {metric, f"{metric}_bucket", f"{metric}_sum"} & shown, name
    assert set(OTHERS) <= shown


def test_panels_stand_beside_each_other_and_ask_the_provisioned_source():
    (source,) = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text()
    )["datasources"]
    places = set()
    for panel in DASHBOARD["panels"]:
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        places.add((place["x"], place["y"]))
    ids = {panel["id"] for panel in DASHBOARD["panels"]}
    assert len(places) == len(ids) == len(DASHBOARD["panels"])


def test_dashboards_are_where_grafana_looks():
    (provider,) = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/dashboards/mmkeras.yml").read_text()
    )["providers"]
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    grafana = compose["services"]["grafana"]
    mounted = dict(v.split(":")[:2] for v in grafana["volumes"])
    assert mounted["./grafana/dashboards"] == provider["options"]["path"]


def test_prometheus_scrapes_what_compose_runs():
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    for job in jobs.values():
        for target in job["static_configs"][0]["targets"]:
            assert re.sub(r"^http://|:.*", "", target) in services
    monitoring = (DEPLOY / "config" / "monitoring.config").read_text()
    assert f'path: "{jobs["tf-serving"]["metrics_path"]}"' in monitoring
    (module,) = jobs["tf-serving-model"]["params"]["module"]
    modules = yaml.safe_load((PROMETHEUS / "blackbox.yml").read_text())["modules"]
    assert modules[module]["http"]["valid_status_codes"] == [200]


def test_promtool_accepts_the_configuration(promtool):
    code, said = promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert code == 0, said
    assert "1 rule files found" in said


def test_promtool_refuses_a_broken_one(promtool, tmp_path):
    text = (PROMETHEUS / "prometheus.yml").read_text()
    (tmp_path / "alerts.yml").write_text(ALERTS)
    broken = tmp_path / "prometheus.yml"
    for right, wrong in (("metrics_path", "metric_path"), ("15s", "15 seconds")):
        broken.write_text(text.replace(right, wrong))
        assert promtool("check", "config", broken)[0] != 0


def test_promtool_parses_every_query_of_the_dashboard(promtool, tmp_path):
    def checked(all_queries):
        rules = [{"record": "checked", "expr": query} for query in all_queries]
        path = tmp_path / "rules.yml"
        groups = [{"name": f"{i}", "rules": [r]} for i, r in enumerate(rules)]
        path.write_text(yaml.safe_dump({"groups": groups}))
        return promtool("check", "rules", path)

    code, said = checked(query for _, query in queries())
    assert code == 0, said
    assert checked(["sum by (le (up)"])[0] != 0


BUCKETS = ':tensorflow:serving:request_latency_bucket{model_name="m",API="Predict",'
COUNT = ':tensorflow:serving:request_count{model_name="m",status='


# What each alert is about, as series at one-minute steps for 30 minutes.
FIRES = {
    "ServerDown": {'up{job="tf-serving",instance="a:8501"}': "1x10 0x20"},
    "NoVersionAvailable": {
        'probe_success{job="tf-serving-model",model_name="m"}': "1x10 0x20"
    },
    "ErrorRate": {f'{COUNT}"OK"}}': "0+98x30", f'{COUNT}"INTERNAL"}}': "0+2x30"},
    "P99Latency": {
        f'{BUCKETS}le="700000"}}': "0+95x30",
        f'{BUCKETS}le="1200000"}}': "0+95x30",
        f'{BUCKETS}le="2100000"}}': "0+100x30",
        f'{BUCKETS}le="+Inf"}}': "0+100x30",
    },
    "QueueFull": {f'{COUNT}"OK"}}': "0+9999x30", f'{COUNT}"UNAVAILABLE"}}': "0+1x30"},
}
QUIET = {
    'up{job="tf-serving",instance="a:8501"}': "1x30",
    'probe_success{job="tf-serving-model",model_name="m"}': "1x30",
    f'{COUNT}"OK"}}': "0+99x30",
    f'{COUNT}"INVALID_ARGUMENT"}}': "0+50x30",  # the clients' own fault
    f'{COUNT}"INTERNAL"}}': "0+0x30",
    f'{BUCKETS}le="700000"}}': "0+100x30",
    f'{BUCKETS}le="+Inf"}}': "0+100x30",
}


# Just not what each alert is about: a little below its threshold, or back in time.
NEARLY = {
    "ServerDown": {'up{job="tf-serving",instance="a:8501"}': "1x10 0 1x20"},
    "NoVersionAvailable": {
        'probe_success{job="tf-serving-model",model_name="m"}': "1x10 0 1x20"
    },
    "ErrorRate": {f'{COUNT}"OK"}}': "0+991x30", f'{COUNT}"INTERNAL"}}': "0+9x30"},
    "P99Latency": {
        # 99 of 100 within the bucket that ends just below a second
        f'{BUCKETS}le="999999"}}': "0+991x30",
        f'{BUCKETS}le="1200000"}}': "0+1000x30",
        f'{BUCKETS}le="+Inf"}}': "0+1000x30",
    },
    "QueueFull": {f'{COUNT}"OK"}}': "0+99x30", f'{COUNT}"UNAVAILABLE"}}': "5x30"},
}
# {alert: minute in which it begins to hold, and those that it must hold}
ONSET = {
    "ServerDown": (11, 1),
    "NoVersionAvailable": (11, 1),
    "ErrorRate": (1, 5),
    "P99Latency": (1, 10),
    "QueueFull": (1, 2),
}


def firing(promtool, tmp_path, name, content, at="29m"):
    """Whether the alert fires at that time; promtool's own test says so."""
    tests = {
        "rule_files": [str(PROMETHEUS / "alerts.yml")],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": s, "values": v} for s, v in content.items()
                ],
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{name}",'
                        'alertstate="firing"}) or vector(0)',
                        "eval_time": at,
                        "exp_samples": [{"value": 1}],
                    }
                ],
            }
        ],
    }
    path = tmp_path / "tests.yml"
    path.write_text(yaml.safe_dump(tests))
    code, said = promtool("test", "rules", path)
    assert code == 0 or "got:" in said, said
    return code == 0


@pytest.mark.parametrize("name", FIRES)
def test_an_alert_fires_when_it_should_and_only_then(promtool, tmp_path, name):
    assert firing(promtool, tmp_path, name, FIRES[name])
    assert not firing(promtool, tmp_path, name, QUIET)


@pytest.mark.parametrize("name", NEARLY)
def test_an_alert_is_quiet_just_below_its_threshold(promtool, tmp_path, name):
    for minute in (11, 12, 13, 29):
        assert not firing(promtool, tmp_path, name, NEARLY[name], f"{minute}m")


@pytest.mark.parametrize("name", ONSET)
def test_an_alert_waits_as_long_as_it_says_and_no_longer(promtool, tmp_path, name):
    begins, held = ONSET[name]
    due = begins + held
    assert not firing(promtool, tmp_path, name, FIRES[name], f"{due - 1}m")
    assert firing(promtool, tmp_path, name, FIRES[name], f"{due}m")


def test_every_alert_is_tried():
    rules = yaml.safe_load(ALERTS)["groups"][0]["rules"]
    alerts = {rule["alert"] for rule in rules}
    assert alerts == set(FIRES) == set(NEARLY) == set(ONSET)
