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
from examples.email_service.settings import Settings
from tests.support.deployment import DEPLOY, document, program

PROMETHEUS: Final = DEPLOY / "prometheus"
GRAFANA: Final = DEPLOY / "grafana"
DASHBOARD: Final[dict[str, Any]] = json.loads((GRAFANA / "dashboards" / "email-queue.json").read_text())

needs_promtool = pytest.mark.skipif(
    program("promtool") is None, reason="promtool (Debian: prometheus) is not installed"
)


def promtool(*arguments: str) -> str:
    """Its output; fails the test when it complains."""
    command = [program("promtool") or "promtool", *arguments]
    done = subprocess.run(command, cwd=PROMETHEUS, capture_output=True, text=True, timeout=20)
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


def selectors(query: str) -> list[promql_parser.VectorSelector]:
    found: list[promql_parser.VectorSelector] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    promql_parser.walk(promql_parser.parse(query), pre_visit=visit)
    return found


@pytest.fixture
async def exported(settings: Settings) -> set[str]:
    """The names of all series that an instance may export."""
    app = create_app(Instance(settings, "api"))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client,
    ):
        text = (await client.get("/metrics")).text
    names: set[str] = set()
    for family in text_string_to_metric_families(text):
        suffixes = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",)}.get(family.type, ("",))
        names |= {family.name + suffix for suffix in suffixes}
    return names


@pytest.mark.anyio
async def test_rules_dashboard_and_scaler_ask_for_what_the_service_exports(exported: set[str]) -> None:
    recorded = {where for where, _ in queries() if ":" in where}
    asked = {(where, selector.name) for where, query in queries() for selector in selectors(query)}

    assert len(asked) > 20
    assert {(where, name) for where, name in asked if name not in exported | recorded} == set()


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
