"""What stands in ``dashboards/grafana``: it fits the metrics that a worker has, and Prometheus."""

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Histogram

import dashboards
from monitor.adapters.memory import MemoryLog, MemoryStore
from monitor.app.live import Worker, World
from monitor.app.settings import Settings
from monitor.app.telemetry import Metrics, telemetry_server
from tests.app.story import SETTINGS, TOPICS, filled, history
from tests.servers.ports import HOST, free_port
from tests.servers.prometheus import JOB, NO_PROMETHEUS, PROGRAM, TOOL, Prometheus

FOLDER = Path(dashboards.__file__).with_name("grafana")
DASHBOARD, RULES = FOLDER / "recallwatch.json", FOLDER / "recallwatch.rules.yml"
UNIT_TESTS = Path(__file__).with_name("rules.test.yml")
DOCUMENT = Path(__file__).parents[2] / "docs" / "prometheus.md"
COLUMNS, MOST_ROWS = 24, 100

needs_prometheus = pytest.mark.skipif(
    shutil.which(PROGRAM) is None or shutil.which(TOOL) is None, reason=NO_PROMETHEUS
)


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def expressions() -> list[str]:
    """Every query of the Grafana dashboard, and every expression of the rules."""
    asked = [target["expr"] for panel in panels() for target in panel.get("targets", [])]
    return [*asked, *(rule["expr"] for rule in rules())]


def rules() -> list[dict[str, Any]]:
    return [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]


def series() -> dict[str, frozenset[str]]:
    """The name of every series that a worker may have, with its labels."""
    found: dict[str, frozenset[str]] = {}
    for metric in vars(Metrics()).values():
        if not hasattr(metric, "_labelnames"):
            continue
        name, labels = metric._name, frozenset(metric._labelnames)
        if isinstance(metric, Histogram):
            found |= {f"{name}_{part}": labels for part in ("sum", "count")}
            found[f"{name}_bucket"] = labels | {"le"}
        else:
            found[f"{name}_total" if isinstance(metric, Counter) else name] = labels
    return found


def names_in(text: str) -> set[str]:
    return set(re.findall(r"recallwatch_\w+", text))


def grouped_by(text: str) -> Iterable[str]:
    for labels in re.findall(r"\bby \(([^)]*)\)", text):
        yield from (label.strip() for label in labels.split(","))


@pytest.mark.parametrize("expression", expressions())
def test_a_query_asks_for_metrics_and_labels_that_a_worker_has(expression: str) -> None:
    known = series()
    asked = names_in(expression)
    assert asked
    assert asked <= known.keys()
    labels = {label for name in asked for label in known[name]}
    assert set(grouped_by(expression)) <= labels | {"job", "instance"}


def test_the_series_of_a_worker_are_those_that_it_serves() -> None:
    """So that the test above knows what it is talking of."""
    metrics = Metrics()
    for metric in vars(metrics).values():
        if getattr(metric, "_labelnames", ()):
            metric.labels(*metric._labelnames)
    served = {sample.name for family in metrics.registry.collect() for sample in family.samples}
    assert {name for name in served if not name.endswith("_created")} == series().keys()


def test_every_metric_of_a_worker_is_used() -> None:
    used = {name for expression in expressions() for name in names_in(expression)}
    unused = {name for name in series() if not name.endswith(("_sum", "_count"))} - used
    assert unused == set()


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= COLUMNS
        taken |= cells
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids)) < MOST_ROWS


def test_the_dashboard_asks_the_data_source_that_its_reader_chooses() -> None:
    document = json.loads(DASHBOARD.read_text())
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    sources = [panel["datasource"] for panel in panels() if panel["type"] != "row"]
    assert sources == [chosen] * len(sources)
    assert document["timezone"] == "utc"
    assert [variable["name"] for variable in document["templating"]["list"]] == [
        "datasource",
        "job",
    ]


def test_every_rule_says_how_urgent_it_is_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert set(rule["annotations"]) == {"summary", "description"}


def test_every_rule_has_a_unit_test() -> None:
    told = yaml.safe_load(UNIT_TESTS.read_text())["tests"]
    tested = {case["alertname"] for test in told for case in test["alert_rule_test"]}
    firing = {
        case["alertname"] for test in told for case in test["alert_rule_test"] if case["exp_alerts"]
    }
    assert tested == firing == {rule["alert"] for rule in rules()}


def test_every_metric_and_rule_is_documented() -> None:
    text = DOCUMENT.read_text()
    told = set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE))
    served = {name for name in series() if not name.endswith(("_bucket", "_sum", "_count"))}
    histograms = {name.removesuffix("_bucket") for name in series() if name.endswith("_bucket")}
    assert told == served | histograms | {rule["alert"] for rule in rules()}


def promtool(*arguments: str) -> str:
    done = subprocess.run(
        [TOOL, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_prometheus
def test_promtool_accepts_the_rules() -> None:
    assert f"SUCCESS: {len(rules())} rules found" in promtool("check", "rules", str(RULES))


@needs_prometheus
def test_the_rules_do_what_their_unit_tests_say() -> None:
    assert "SUCCESS" in promtool("test", "rules", str(UNIT_TESTS))


@pytest.fixture
def port() -> Iterator[int]:
    """Where a worker serves its metrics, over a log and a store in memory."""
    log, store, served = filled(MemoryLog(TOPICS), history()), MemoryStore(), free_port()
    world = World(lambda: log, lambda: store, lambda: MemoryLog({}), lambda: MemoryLog({}))
    worker = Worker(Settings.model_validate(SETTINGS), world)
    thread = threading.Thread(target=worker.run, name="worker")
    with ExitStack() as opened:
        opened.enter_context(telemetry_server(HOST, served, worker.metrics, worker.health))
        opened.callback(thread.join)
        opened.callback(worker.stop.set)
        thread.start()
        yield served


@needs_prometheus
def test_a_real_prometheus_scrapes_a_running_worker_and_its_rules_fire(
    port: int,
) -> None:
    with Prometheus(f"{HOST}:{port}", RULES) as prometheus:

        def has_come() -> bool:
            counted = prometheus.value("sum(recallwatch_records_total)")
            return counted == len(history()) and firing(prometheus)

        prometheus.wait_until(has_come, "told of all records and the alert", 60.0)
        assert prometheus.value("up") == 1
        assert prometheus.value("recallwatch_lag_records") == 0
        age_s = prometheus.value("time() - max(recallwatch_evaluated_seconds)")
        assert age_s is not None
        assert 0 <= age_s < 60
        for expression in expressions():
            shown = expression.replace("$job", JOB).replace("$__rate_interval", "1m")
            prometheus.ask("query", query=shown)


def firing(prometheus: Prometheus) -> bool:
    alerts = prometheus.ask("alerts")["alerts"]
    return any(alert["labels"]["alertname"] == "RecallwatchFiring" for alert in alerts)
