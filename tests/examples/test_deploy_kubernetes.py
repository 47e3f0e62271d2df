"""The Kubernetes manifests, as kustomize renders each overlay: valid, safe by default, and in step with the service.

Needs `kubectl`, whose `kustomize` works without a cluster; where there is none, only the single files are checked.
"""

from __future__ import annotations

import functools
import importlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import promql_parser
import pytest
import yaml
from pydantic import ValidationError

from examples.email_service.local.programs import find
from tests.support.deployment import DEPLOY, documents, known_variables, settings_from

KUBERNETES: Final = DEPLOY / "kubernetes"
VERSION: Final = "1.34"
OVERLAYS: Final = ["dedicated", "everywhere", "hybrid"]
FILES: Final = sorted(file for file in KUBERNETES.rglob("*.yaml") if file.name != "kustomization.yaml")

Resource = dict[str, Any]

pytestmark = pytest.mark.timeout(60)  # the schemas are large

needs_kubectl = pytest.mark.skipif(find("kubectl") is None, reason="kubectl is not installed")


class Rendered:
    """The resources of one overlay."""

    def __init__(self, overlay: str) -> None:
        command = [find("kubectl") or "kubectl", "kustomize", str(KUBERNETES / "overlays" / overlay)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50)
        assert done.returncode == 0, done.stderr
        self.resources: list[Resource] = list(yaml.safe_load_all(done.stdout))

    def of(self, kind: str) -> dict[str, Resource]:
        return {each["metadata"]["name"]: each for each in self.resources if each["kind"] == kind}

    def pods(self) -> Iterator[tuple[str, Resource]]:
        """Name and pod template of each workload."""
        for kind in ("Deployment", "StatefulSet"):
            for name, workload in self.of(kind).items():
                yield name, workload["spec"]["template"]

    def variables(self, deployment: str) -> dict[str, str]:
        """The environment of a container as the cluster would set it: the later source wins."""
        template = self.of("Deployment")[deployment]["spec"]["template"]
        (container,) = template["spec"]["containers"]
        found: dict[str, str] = {}
        for source in container["envFrom"]:
            if "configMapRef" in source:
                found |= self.of("ConfigMap")[source["configMapRef"]["name"]]["data"]
            else:
                found |= self.of("Secret")[source["secretRef"]["name"]]["stringData"]
        for variable in container["env"]:
            found[variable["name"]] = variable.get("value", f"{deployment}-7d4b9c-x2x9z")
        return found


@pytest.fixture(scope="module", params=OVERLAYS)
def rendered(request: pytest.FixtureRequest) -> Rendered:
    return Rendered(request.param)


@pytest.fixture(scope="module")
def dedicated() -> Rendered:
    return Rendered("dedicated")


@functools.cache
def keda() -> Any:
    """The models of KEDA's resources; imported by who needs them, for that takes a second of every run otherwise."""
    return importlib.import_module("cloudcoil.models.keda.v1alpha1")


def check(resource: Resource) -> None:
    """Raise ValidationError (of one library or the other) when the API server would refuse or ignore part of it."""
    if resource["apiVersion"].startswith("keda.sh/"):
        parsed = keda().ScaledObject.model_validate(resource)
        understood = parsed.model_dump(mode="json", by_alias=True, exclude_unset=True)
        assert understood == resource, "KEDA does not know part of it"
    else:
        kubernetes_validate.validate(resource, VERSION, strict=True)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(KUBERNETES).as_posix())
def test_each_file_is_valid_by_the_schemas_of_kubernetes_and_keda(file: Path) -> None:
    for resource in documents(file):
        check(resource)


def test_misspelled_fields_are_refused() -> None:
    (scaled,) = documents(KUBERNETES / "components" / "keda" / "scaled-object.yaml")
    deployment = documents(KUBERNETES / "base" / "worker.yaml")[0]

    with pytest.raises(AssertionError, match="KEDA does not know"):
        check({**scaled, "spec": {**scaled["spec"], "minReplicas": 1}})
    with pytest.raises(ValidationError):
        check({**scaled, "spec": {**scaled["spec"], "pollingInterval": "often"}})
    with pytest.raises(kubernetes_validate.ValidationError):
        check({**deployment, "spec": {**deployment["spec"], "replica": 1}})


@needs_kubectl
def test_each_overlay_renders_to_valid_resources(rendered: Rendered) -> None:
    assert len(rendered.resources) >= 12
    for resource in rendered.resources:
        check(resource)


@needs_kubectl
@pytest.mark.parametrize(
    ("overlay", "api_sends", "workers"),
    [("dedicated", False, True), ("everywhere", True, False), ("hybrid", True, True)],
)
def test_an_overlay_is_one_way_to_deploy(overlay: str, api_sends: bool, workers: bool) -> None:
    rendered = Rendered(overlay)

    assert settings_from(rendered.variables("api")).start_email_worker is api_sends
    assert ("worker" in rendered.of("Deployment")) is workers
    assert ("worker" in rendered.of("PodDisruptionBudget")) is workers


@needs_kubectl
def test_the_variables_of_an_instance_are_those_that_the_service_reads(rendered: Rendered) -> None:
    for name in rendered.of("Deployment"):
        variables = rendered.variables(name)
        assert set(variables) <= known_variables()
        settings = settings_from(variables)
        assert settings.instance_id == f"{name}-7d4b9c-x2x9z"


@needs_kubectl
def test_an_instance_gets_more_time_to_end_than_it_takes(rendered: Rendered) -> None:
    for name, template in rendered.pods():
        if name == "redis":
            continue
        (container,) = template["spec"]["containers"]
        pre_stop = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])
        needed = settings_from(rendered.variables(name)).shutdown_timeout + float(pre_stop[1])
        assert template["spec"]["terminationGracePeriodSeconds"] >= needed + 5


@needs_kubectl
def test_no_container_has_rights_that_it_does_not_need(rendered: Rendered) -> None:
    for name, template in rendered.pods():
        pod, (container,) = template["spec"], template["spec"]["containers"]
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] > 0, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert "memory" in container["resources"]["limits"], name


@needs_kubectl
def test_the_probes_ask_the_right_questions_at_the_port_of_the_instance(rendered: Rendered) -> None:
    for name in rendered.of("Deployment"):
        (container,) = rendered.of("Deployment")[name]["spec"]["template"]["spec"]["containers"]
        (port,) = container["ports"]
        probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
        assert {kind: probe["path"] for kind, probe in probes.items()} == {
            "startup": "/livez",
            "liveness": "/livez",
            "readiness": "/readyz",
        }
        assert {probe["port"] for probe in probes.values()} == {port["name"]}
        assert str(port["containerPort"]) == rendered.variables(name)["PORT"]


@needs_kubectl
def test_services_budgets_and_policies_select_pods_that_exist(rendered: Rendered) -> None:
    labels = [template["metadata"]["labels"] for _, template in rendered.pods()]
    selectors = [service["spec"]["selector"] for service in rendered.of("Service").values()]
    selectors += [budget["spec"]["selector"]["matchLabels"] for budget in rendered.of("PodDisruptionBudget").values()]

    assert len(selectors) >= 3
    for selector in selectors:
        assert any(selector.items() <= each.items() for each in labels), selector
    everything_denied = rendered.of("NetworkPolicy")["nothing-by-default"]["spec"]
    assert everything_denied == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@needs_kubectl
def test_exactly_one_owner_sets_the_number_of_each_deployment(rendered: Rendered) -> None:
    scalers = [*rendered.of("HorizontalPodAutoscaler").values(), *rendered.of("ScaledObject").values()]
    targets = [scaler["spec"]["scaleTargetRef"]["name"] for scaler in scalers]
    fixed = [name for name, deployment in rendered.of("Deployment").items() if "replicas" in deployment["spec"]]

    assert sorted(targets + fixed) == sorted(rendered.of("Deployment"))


@needs_kubectl
def test_workers_scale_by_one_number_of_the_queue(dedicated: Rendered) -> None:
    spec = dedicated.of("ScaledObject")["worker"]["spec"]
    (trigger,) = spec["triggers"]

    assert trigger["type"] == "prometheus"
    assert isinstance(promql_parser.parse(trigger["metadata"]["query"]), promql_parser.AggregateExpr)
    assert trigger["metadata"]["ignoreNullValues"] == "false"
    assert 1 <= spec["minReplicaCount"] <= spec["fallback"]["replicas"] <= spec["maxReplicaCount"]
