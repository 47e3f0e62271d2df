"""Prometheus and Grafana: their files are valid, and ask for nothing that the service does not export."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from itertools import combinations
from typing import Any, Final

import httpx
import promql_parser
import pytest
from prometheus_client.parser import text_string_to_metric_families

from examples.email_service.api import create_app
from examples.email_service.instance import Instance
from examples.email_service.local.programs import find
from examples.email_service.settings import Settings
from tests.support.deployment import DEPLOY, document

PROMETHEUS: Final = DEPLOY / "prometheus"
GRAFANA: Final = DEPLOY / "grafana"
DASHBOARD: Final[dict[str, Any]] = json.loads((GRAFANA / "dashboards" / "email-queue.json").read_text())

pytestmark = pytest.mark.timeout(60)  # programs are started

needs_promtool = pytest.mark.skipif(find("promtool") is None, reason="promtool (Debian: prometheus) is not installed")


def promtool(*arguments: str) -> str:
    """Its output; fails the test when it complains."""
    command = [find("promtool") or "promtool", *arguments]
    done = subprocess.run(command, cwd=PROMETHEUS, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_promtool
def test_promtool_takes_the_configuration() -> None:
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")


@needs_promtool
def test_the_examples_of_the_rules_come_out_as_they_say() -> None:
    assert "SUCCESS" in promtool("test", "rules", "rules_test.yml")


def test_the_service_keeps_its_own_instance_label() -> None:
    (scrape,) = document(PROMETHEUS / "prometheus.yml")["scrape_configs"]

    assert scrape["honor_labels"] is True
    assert scrape["dns_sd_configs"][0]["names"] == ["api", "worker"]


def queries() -> Iterator[tuple[str, str]]:
    """Where from, and the PromQL."""
    for group in document(PROMETHEUS / "rules.yml")["groups"]:
        for rule in group["rules"]:
            yield rule.get("alert") or rule["record"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "1m").replace("$queue", "email")
    scaled = document(DEPLOY / "kubernetes" / "components" / "keda" / "scaled-object.yaml")
    for trigger in scaled["spec"]["triggers"]:
        yield "ScaledObject", trigger["metadata"]["query"]


def asked(query: str) -> list[tuple[str, set[str]]]:
    """Each metric that a query asks for, with all labels that it names: a query here has one label set throughout."""
    names: list[str] = []
    labels: set[str] = set()

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            names.append(node.name or "")
            labels.update(matcher.name for matcher in node.matchers.matchers)
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            labels.update(node.modifier.labels)

    promql_parser.walk(promql_parser.parse(query), pre_visit=visit)
    return [(name, labels) for name in names]


@pytest.fixture
async def exported(settings: Settings) -> dict[str, set[str]]:
    """The names of all series that an instance may export, and their labels; `instance` comes from the scrape, too."""
    app = create_app(Instance(settings, "api"))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client,
    ):
        await client.get("/metrics")  # so that the next one knows of a request
        text = (await client.get("/metrics")).text
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {"instance"}).update(sample.labels)
    return found


@pytest.mark.anyio
async def test_rules_dashboard_and_scaler_ask_for_what_the_service_exports(exported: dict[str, set[str]]) -> None:
    exported |= {name: {"queue"} for name, _ in queries() if ":" in name}  # the recording rules
    wrong = [
        (where, name, labels - exported.get(name, set()))
        for where, query in queries()
        for name, labels in asked(query)
        if not labels <= exported.get(name, set()) or name not in exported
    ]

    assert sum(len(asked(query)) for _, query in queries()) > 20
    assert wrong == []


def test_the_panels_of_the_dashboard_lie_side_by_side() -> None:
    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        return {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }

    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["description"] for panel in panels)
    assert not any(cells(one) & cells(other) for one, other in combinations(panels, 2))


def test_grafana_is_provisioned_with_the_dashboard_and_its_source() -> None:
    (source,) = document(GRAFANA / "provisioning" / "datasources" / "prometheus.yml")["datasources"]
    (provider,) = document(GRAFANA / "provisioning" / "dashboards" / "email-queue.yml")["providers"]
    services = document(DEPLOY / "compose.yaml")["services"]
    mounts = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])

    used = set(re.findall(r'"uid": "(\w+)"', json.dumps({"panels": DASHBOARD["panels"]})))
    assert used == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (GRAFANA / "dashboards" / home.rpartition("/")[2]).exists()
