"""compose.yaml and the Dockerfiles: valid by the published schema and the linter, and in step with the service.

No image is built here, that needs a container engine; what can be told without one is: that each file which is copied
exists and is not ignored, and that the packages an image installs are all that its programs import.
"""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from packaging.requirements import Requirement

from examples.email_service.local.programs import find
from tests.support.deployment import CHECKOUT, DEPLOY, document, known_variables, settings_from

COMPOSE: Final = DEPLOY / "compose.yaml"
IMAGES: Final = [DEPLOY / "Dockerfile", DEPLOY / "bull-board" / "Dockerfile"]
INSTANCES: Final = ("api", "worker")

pytestmark = pytest.mark.timeout(60)  # programs are started


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    parsed: dict[str, Any] = document(COMPOSE)["services"]
    return parsed


def check_against_schema(file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=50)


def defaults(environment: dict[str, str]) -> dict[str, str]:
    """The values when no variable of compose.yaml is set: `${NAME:-default}` is its default."""
    return {name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for name, value in environment.items()}


def test_compose_file_is_valid_by_the_compose_specification() -> None:
    checked = check_against_schema(COMPOSE)

    assert checked.returncode == 0, checked.stdout


def test_the_schema_refuses_a_misspelled_key(tmp_path: Path) -> None:
    broken = document(COMPOSE)
    broken["services"]["redis"]["heathcheck"] = broken["services"]["redis"].pop("healthcheck")
    file = tmp_path / "compose.yaml"
    file.write_text(yaml.safe_dump(broken))

    assert "heathcheck" in check_against_schema(file).stdout


@pytest.mark.parametrize("name", INSTANCES)
def test_the_variables_of_an_instance_are_those_that_the_service_reads(services: dict[str, Any], name: str) -> None:
    environment = services[name]["environment"]

    assert set(environment) <= known_variables()
    settings = settings_from({**defaults(environment), "HOSTNAME": "0123456789ab"})
    assert settings.instance_id == "0123456789ab"
    assert settings.redis_url == "redis://redis:6379"


def test_one_variable_chooses_how_to_deploy(services: dict[str, Any]) -> None:
    environment = services["api"]["environment"]

    assert environment["START_EMAIL_WORKER"] == "${START_EMAIL_WORKER:-false}"
    assert settings_from({**defaults(environment), "HOSTNAME": "x"}).start_email_worker is False
    assert services["api"]["deploy"]["replicas"] == services["worker"]["deploy"]["replicas"] == 2


@pytest.mark.parametrize("name", INSTANCES)
def test_an_instance_gets_more_time_to_end_than_it_takes(services: dict[str, Any], name: str) -> None:
    settings = settings_from({**defaults(services[name]["environment"]), "HOSTNAME": "x"})

    assert float(services[name]["stop_grace_period"].removesuffix("s")) >= settings.shutdown_timeout + 5


def test_redis_keeps_what_it_acknowledged_and_evicts_nothing(services: dict[str, Any]) -> None:
    options = services["redis"]["command"]

    assert options[options.index("--appendonly") + 1] == "yes"
    assert options[options.index("--maxmemory-policy") + 1] == "noeviction"
    assert any(volume.endswith(":/data") for volume in services["redis"]["volumes"])


def test_what_has_no_login_is_published_on_this_host_only(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]

    assert len(published) == 4
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_versions_of_foreign_images_are_named(services: dict[str, Any]) -> None:
    images = [service["image"] for service in services.values() if "build" not in service]

    assert len(images) == 4
    assert all(re.fullmatch(r"[\w./-]+:v?\d+[\w.-]*", image) for image in images)


def test_files_that_are_mounted_and_built_from_exist(services: dict[str, Any]) -> None:
    mounted = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])]
    builds = [service["build"] for service in services.values() if "build" in service]
    targets = re.findall(r"^FROM \S+ AS (\S+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)

    assert [path for path in mounted if path.startswith(".") and not (DEPLOY / path).exists()] == []
    for build in builds:
        if isinstance(build, str):
            assert (DEPLOY / build / "Dockerfile").exists()
        else:
            assert ((DEPLOY / build["context"]).resolve() / build["dockerfile"]).exists()
            assert build["target"] in targets


def test_the_variables_of_bull_board_are_those_that_it_reads(services: dict[str, Any]) -> None:
    source = (DEPLOY / "bull-board" / "server.mjs").read_text()
    read = set(re.findall(r"\b([A-Z_]+) = \"", source))

    assert set(services["bull-board"]["environment"]) <= read
    keys = ("REDIS_URL", "QUEUE_NAME", "QUEUE_PREFIX")
    assert [services["bull-board"]["environment"][key] for key in keys] == [
        services["api"]["environment"][key] for key in keys
    ]


def test_the_lockfile_of_bull_board_names_no_download_addresses() -> None:
    packages = json.loads((DEPLOY / "bull-board" / "package-lock.json").read_text())["packages"]

    assert len(packages) > 10
    assert all("resolved" not in package for package in packages.values())


@pytest.mark.parametrize("file", IMAGES, ids=lambda file: file.parent.name)
def test_dockerfiles_have_no_complaint_of_the_linter(file: Path) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint is not None

    linted = subprocess.run([hadolint, "--no-color", str(file)], capture_output=True, text=True, timeout=50)

    assert (linted.returncode, linted.stdout) == (0, "")


@pytest.mark.parametrize("file", IMAGES, ids=lambda file: file.parent.name)
def test_images_run_as_a_numbered_user_without_rights(file: Path) -> None:
    users = re.findall(r"^USER (\S+)", file.read_text(), re.MULTILINE)

    assert users
    assert all(re.fullmatch(r"[1-9]\d*:[1-9]\d*", user) for user in users)


def test_what_the_image_copies_is_in_the_checkout_and_not_ignored() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    sources = [source for line in copied for source in line.split()]
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    sent = [line.removeprefix("!") for line in ignored if line.startswith("!")]

    assert len(sources) >= 8
    for source in sources:
        assert list(CHECKOUT.glob(source)), source
        assert any(fnmatch.fnmatch(source, pattern) for pattern in sent), f"{source} is not sent to the builder"


# Import a module where nothing is installed but some distributions; print which files of the checkout that needed.
IN_IMAGE: Final = """
import sys
from importlib.metadata import packages_distributions
module, *brought = sys.argv[1:]
absent = {name for name, distributions in packages_distributions().items() if not set(distributions) & set(brought)}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}, as in the image", name=name)

sys.meta_path.insert(0, Absent())
__import__(module)
print(*(module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "examples"), sep="\\n")
"""


@pytest.mark.parametrize(
    ("module", "installed"),
    [
        ("examples.email_service.api", r"\$\{wheel\}(\[.+\])"),
        ("examples.email_service.worker", r"\$\{wheel\}(\[.+\])"),
        ("examples.email_service.smtp_sink", r"(aiosmtpd)>="),
    ],
)
def test_a_program_starts_with_the_packages_and_files_of_its_image(module: str, installed: str) -> None:
    (what,) = re.findall(installed, (DEPLOY / "Dockerfile").read_text())
    brought = brought_by(Requirement(f"pyqueue-redis{what}" if what.startswith("[") else what))

    command = [sys.executable, "-c", IN_IMAGE, module, *brought]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=50)

    assert done.returncode == 0, done.stderr
    copied = [*CHECKOUT.glob("examples/email_service/*.py"), CHECKOUT / "examples" / "__init__.py"]
    assert {Path(line) for line in done.stdout.split()} <= set(copied)


def brought_by(requirement: Requirement) -> set[str]:
    """Names of the distributions that pip installs for a requirement, by the metadata of what is installed here."""
    wanted, seen, found = [requirement], set(), set()
    while wanted:
        each = wanted.pop()
        if str(each) in seen or (each.marker is not None and not each.marker.evaluate({"extra": ""})):
            continue
        seen.add(str(each))
        try:
            installed = distribution(each.name)
        except PackageNotFoundError:  # needed on another platform only
            continue
        found.add(installed.metadata["Name"])
        for text in installed.requires or ():
            wanted.extend(_with_extras(Requirement(text), each.extras))
    return found


def _with_extras(requirement: Requirement, extras: set[str]) -> list[Requirement]:
    """The requirement without its marker, if that holds for one of the extras or without any."""
    marker = requirement.marker
    if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
        return []
    requirement.marker = None
    return [requirement]


@pytest.mark.skipif(find("nginx") is None, reason="nginx is not installed")
def test_nginx_takes_the_configuration_of_the_balancer(tmp_path: Path) -> None:
    nginx = find("nginx")
    assert nginx is not None
    file = DEPLOY / "nginx" / "nginx.conf"

    tested = subprocess.run(
        [nginx, "-t", "-p", str(tmp_path), "-e", "stderr", "-c", str(file)],
        capture_output=True,
        text=True,
        timeout=50,
    )

    assert tested.returncode == 0, tested.stderr
