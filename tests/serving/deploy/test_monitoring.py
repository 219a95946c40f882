"""Queries of dashboard and alerts: metrics exist, promtool agrees, alerts fire."""

import json
import re
import subprocess

import pytest
import yaml

from serving.server.metrics import Metrics
from tests.serving.deploy.files import DEPLOY, find_program

PROMETHEUS = DEPLOY / "prometheus"
ALERTS = (PROMETHEUS / "alerts.yml").read_text()
RULES = yaml.safe_load(ALERTS)["groups"][0]["rules"]
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/mmkeras.json").read_text())
# Metrics of Prometheus itself, the blackbox exporter and cAdvisor.
OTHERS = {
    "up": {"job", "instance"},
    "probe_success": {"job", "model_name"},
    "container_memory_working_set_bytes": {"pod", "container"},
}
FUNCTIONS = {"sum", "by", "rate", "histogram_quantile"}
PREFIX = ":tensorflow:serving:"
SERVER = [metric for metric in vars(Metrics()).values() if hasattr(metric, "labels")]
HISTOGRAMS = [metric.name for metric in SERVER if metric.kind == "histogram"]
METRICS = OTHERS | {metric.name: {*metric.labels} for metric in SERVER}  # -> labels
for _name in HISTOGRAMS:
    METRICS |= {f"{_name}_{suffix}": METRICS[_name] for suffix in ("sum", "count")}
    METRICS[f"{_name}_bucket"] = METRICS.pop(_name) | {"le"}


def read_yaml(name):
    return yaml.safe_load((DEPLOY / name).read_text())


def metrics_in(query):
    """Returns the names of metrics in PromQL that uses the FUNCTIONS above."""
    bare = re.sub(r'"[^"]*"|\[[^]]*\]|\bby \([^)]*\)', " ", query)
    bare = re.sub(r"\{[^}]*\}", " ", bare)
    words = re.findall(r"[a-zA-Z_:][\w:]*", re.sub(r"\b\d[\w.]*", " ", bare))
    return set(words) - FUNCTIONS


def labels_in(query):
    bare = re.sub(r'"[^"]*"', '""', query)
    groups = re.findall(r"\bby \(([^)]*)\)", bare)
    matches = re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", bare)
    return {word.strip() for group in groups for word in group.split(",")} | {*matches}


def check(query):
    """Asserts that the metrics of a query exist and have its labels."""
    names = metrics_in(query)
    assert names and names <= set(METRICS), names - set(METRICS)
    labels = set().union(*(METRICS[name] for name in names))
    assert labels_in(query) <= labels, labels_in(query) - labels


# (panel, query) of the dashboard, without Grafana's variables.
QUERIES = [
    (
        panel["title"],
        target["expr"].replace("$__rate_interval", "1m").replace("$model", ".*"),
    )
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
]


@pytest.fixture(scope="module")
def promtool():
    """promtool(*words) -> (exit code, output)."""
    path = find_program("promtool", "which comes with Debian's package prometheus")

    def run(*words):
        process = subprocess.run(
            [path, *map(str, words)], capture_output=True, text=True, timeout=60
        )
        return process.returncode, process.stdout + process.stderr

    return run


@pytest.mark.parametrize(("panel", "query"), QUERIES)
def test_metrics_of_panels_exist(panel, query):
    check(query)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_metrics_of_alerts_exist(rule):
    check(rule["expr"])
    assert rule["annotations"]["summary"]


def test_the_dashboard_shows_all_metrics_of_the_server():
    shown = {name for _, query in QUERIES for name in metrics_in(query)}
    for name in HISTOGRAMS:
        assert {f"{name}_bucket", f"{name}_sum"} & shown, name
    assert f"{PREFIX}request_count" in shown
    assert set(OTHERS) <= shown


def test_panels_do_not_overlap_and_use_the_provisioned_source():
    path = "grafana/provisioning/datasources/prometheus.yml"
    (source,) = read_yaml(path)["datasources"]
    panels, positions = DASHBOARD["panels"], set()
    for panel in panels:
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        positions.add((grid["x"], grid["y"]))
    assert len(positions) == len({panel["id"] for panel in panels}) == len(panels)


def test_grafana_reads_the_folder_of_dashboards():
    path = "grafana/provisioning/dashboards/mmkeras.yml"
    (provider,) = read_yaml(path)["providers"]
    volumes = read_yaml("compose.yaml")["services"]["grafana"]["volumes"]
    mounts = dict(volume.split(":")[:2] for volume in volumes)
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]


def test_prometheus_scrapes_the_services_of_compose():
    config = read_yaml("prometheus/prometheus.yml")["scrape_configs"]
    services = read_yaml("compose.yaml")["services"]
    jobs = {job["job_name"]: job for job in config}
    for job in config:
        for target in job["static_configs"][0]["targets"]:
            assert re.sub(r"^http://|:.*", "", target) in services
    monitoring = (DEPLOY / "config" / "monitoring.config").read_text()
    assert f'path: "{jobs["tf-serving"]["metrics_path"]}"' in monitoring
    (module,) = jobs["tf-serving-model"]["params"]["module"]
    modules = read_yaml("prometheus/blackbox.yml")["modules"]
    assert modules[module]["http"]["valid_status_codes"] == [200]


def test_promtool_accepts_the_configuration(promtool):
    code, output = promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert code == 0 and "1 rule files found" in output, output


def test_promtool_parses_every_query_of_the_dashboard(promtool, tmp_path):
    rules = [{"record": "test", "expr": query} for _, query in QUERIES]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    code, output = promtool("check", "rules", path)
    assert code == 0, output


# Series at one-minute steps for 30 minutes.
UP = 'up{job="tf-serving",instance="a:8501"}'
PROBE = 'probe_success{job="tf-serving-model",model_name="m"}'


def counts(**series):
    """Returns series of `request_count` by status."""
    name = f'{PREFIX}request_count{{model_name="m",status='
    return {f'{name}"{status}"}}': values for status, values in series.items()}


def buckets(*series):
    """Returns series of `request_latency_bucket` by upper limit, microseconds."""
    name = f'{PREFIX}request_latency_bucket{{model_name="m",API="Predict",le='
    return {f'{name}"{limit}"}}': values for limit, values in series}


SLOW = buckets((1200000, "0+95x30"), (2100000, "0+100x30"), ("+Inf", "0+100x30"))
# First minute in which the alert fires, and series.
FIRING = {
    "ServerDown": (12, {UP: "1x10 0x20"}),
    "NoVersionAvailable": (12, {PROBE: "1x10 0x20"}),
    "ErrorRate": (6, counts(OK="0+98x30", INTERNAL="0+2x30")),
    "P99Latency": (11, SLOW),
    "QueueFull": (3, counts(OK="0+9999x30", UNAVAILABLE="0+1x30")),
}
# INVALID_ARGUMENT is an error of clients.
QUIET = {
    **{UP: "1x30", PROBE: "1x30"},
    **counts(OK="0+99x30", INVALID_ARGUMENT="0+50x30", INTERNAL="0+0x30"),
    **buckets((700000, "0+100x30"), ("+Inf", "0+100x30")),
}
# Just below the threshold, or back in time.
BELOW = {
    "ServerDown": {UP: "1x10 0 1x20"},
    "NoVersionAvailable": {PROBE: "1x10 0 1x20"},
    "ErrorRate": counts(OK="0+991x30", INTERNAL="0+9x30"),
    # 99 of 100 in the bucket that ends just below a second
    "P99Latency": buckets(
        (999999, "0+991x30"), (1200000, "0+1000x30"), ("+Inf", "0+1000x30")
    ),
    "QueueFull": counts(OK="0+99x30", UNAVAILABLE="5x30"),
}


@pytest.fixture
def is_firing(promtool, tmp_path):
    """is_firing(alert, series, minute), by promtool's unit tests of rules."""

    def is_firing(name, series, minute=29):
        query = f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)'
        expectation = {"expr": query, "eval_time": f"{minute}m"}
        test = {
            "interval": "1m",
            "input_series": [{"series": s, "values": v} for s, v in series.items()],
            "promql_expr_test": [{**expectation, "exp_samples": [{"value": 1}]}],
        }
        path = tmp_path / "tests.yml"
        rule_files = [str(PROMETHEUS / "alerts.yml")]
        content = {"evaluation_interval": "1m", "rule_files": rule_files}
        path.write_text(yaml.safe_dump({**content, "tests": [test]}))
        code, output = promtool("test", "rules", path)
        assert code == 0 or "got:" in output, output
        return code == 0

    return is_firing


@pytest.mark.parametrize("name", FIRING)
def test_an_alert_fires_after_its_time_and_above_its_threshold_only(is_firing, name):
    first_minute, series = FIRING[name]
    assert is_firing(name, series) and is_firing(name, series, first_minute)
    assert not is_firing(name, series, first_minute - 1)
    assert not is_firing(name, QUIET)
    for minute in (11, 12, 13, 29):
        assert not is_firing(name, BELOW[name], minute)


def test_every_alert_is_tested():
    alerts = {rule["alert"] for rule in RULES}
    assert alerts == set(FIRING) == set(BELOW)
