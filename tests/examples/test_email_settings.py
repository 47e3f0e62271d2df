"""What an instance reads from its environment, and what it says about a variable that is missing or wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples.email_service.processes import CHECKOUT
from examples.email_service.sender import ANY_RATE, start_limit
from examples.email_service.settings import Settings, available_cpus, default_concurrency, load_settings

REQUIRED = {"REDIS_URL": "redis://localhost:6379", "SMTP_HOST": "localhost"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The required variables and no other of the service's."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("HOSTNAME", "API_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"REDIS_URL": ""}, "REDIS_URL is missing; set it, for example REDIS_URL=redis://localhost:6379"),
        ({"SMTP_HOST": ""}, "SMTP_HOST is missing; set it, for example SMTP_HOST=localhost"),
        ({"REDIS_URL": "localhost:6379"}, "REDIS_URL: must begin with redis://, rediss:// or unix://"),
        ({"SMTP_PORT": "smtp"}, "SMTP_PORT: Input should be a valid integer"),
        ({"PORT": "70000"}, "PORT: Input should be less than or equal to 65535"),
        ({"SMTP_TLS": "ssl"}, "SMTP_TLS: Input should be 'auto', 'none', 'starttls' or 'tls'"),
        ({"SMTP_USER": "ada"}, "SMTP_PASS is missing although SMTP_USER is set; set both or neither"),
        ({"SMTP_PASS": "secret"}, "SMTP_USER is missing although SMTP_PASS is set; set both or neither"),
        ({"EMAIL_CONCURRENCY": "0"}, "EMAIL_CONCURRENCY: Input should be greater than or equal to 1"),
        ({"EMAIL_RATE_MAX": "many"}, "EMAIL_RATE_MAX: Input should be a valid integer"),
        ({"EMAIL_RATE_DURATION": "0"}, "EMAIL_RATE_DURATION: Input should be greater than or equal to 1"),
        ({"SMTP_MAX_CONNECTIONS": "-1"}, "SMTP_MAX_CONNECTIONS: Input should be greater than or equal to 1"),
        ({"SHUTDOWN_TIMEOUT": "0"}, "SHUTDOWN_TIMEOUT: Input should be greater than 0"),
        ({"START_EMAIL_WORKER": "perhaps"}, "START_EMAIL_WORKER: Input should be a valid boolean"),
        ({"EMAIL_FROM": "nobody"}, "EMAIL_FROM: not an e-mail address"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_missing_or_bad_variable_is_named(
    environment: pytest.MonkeyPatch, variables: dict[str, str], complaint: str
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)

    with pytest.raises(SystemExit) as end:
        load_settings()

    assert str(end.value).startswith(f"bad configuration: {complaint}")


def test_all_that_is_wrong_is_named_at_once_and_no_secret_is_told(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("REDIS_URL", "http://:hunter2@redis")
    environment.setenv("SMTP_PORT", "x")

    with pytest.raises(SystemExit) as end:
        load_settings()

    assert len(str(end.value).splitlines()) == 2
    assert "hunter2" not in str(end.value)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("module", ["examples.email_service.api", "examples.email_service.worker"])
def test_a_process_ends_at_once_with_status_1(module: str) -> None:
    variables = {name: value for name, value in os.environ.items() if name not in REQUIRED}

    ended = subprocess.run([sys.executable, "-m", module], cwd=CHECKOUT, env=variables, capture_output=True, text=True)

    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        "bad configuration: REDIS_URL is missing; set it, for example REDIS_URL=redis://localhost:6379",
        "bad configuration: SMTP_HOST is missing; set it, for example SMTP_HOST=localhost",
    ]


@pytest.mark.parametrize(
    ("variables", "instance_id"),
    [
        ({"INSTANCE_ID": "api-1", "HOSTNAME": "pod-7"}, "api-1"),
        ({"HOSTNAME": "pod-7"}, "pod-7"),
        ({}, "HOST-PID"),
    ],
)
def test_the_instance_id_is_the_given_one_else_the_host_name_else_host_and_pid(
    environment: pytest.MonkeyPatch, variables: dict[str, str], instance_id: str
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)

    assert load_settings().instance_id == instance_id.replace("HOST-PID", f"{os.uname().nodename}-{os.getpid()}")


@pytest.mark.parametrize(("cpus", "mails"), [(1, 3), (2, 10), (3, 15), (4, 20), (8, 40)])
def test_the_concurrency_follows_the_machine(cpus: int, mails: int) -> None:
    assert default_concurrency(cpus) == mails


@pytest.mark.parametrize(
    ("quota", "at_most"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", 10_000), ("nonsense", 10_000)]
)
def test_a_containers_quota_counts_as_the_machine(tmp_path: Path, quota: str, at_most: int) -> None:
    (tmp_path / "cpu.max").write_text(quota)

    assert 1 <= available_cpus(tmp_path / "cpu.max") <= at_most


def test_the_environment_of_settings_makes_the_same_settings(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SMTP_USER", "ada")
    environment.setenv("SMTP_PASS", "secret")
    environment.setenv("EMAIL_RATE_MAX", "14")
    settings = load_settings()

    for name, value in settings.environment().items():
        environment.setenv(name, value)

    assert load_settings() == settings
    assert "secret" not in repr(settings)


def test_no_more_connections_are_opened_than_mails_are_sent_at_a_time() -> None:
    settings = Settings(redis_url="redis://x", smtp_host="x", email_concurrency=3, smtp_max_connections=5)

    assert settings.pool_size == 3


@pytest.mark.parametrize(
    ("rate_max", "duration_ms", "starts", "window_ms"),
    [(1, 1000, 2, 1000), (14, 1000, 4, 142), (100, 1000, 4, 20), (1000, 60_000, 40, 1200), (80, 5, 32, 1)],
)
def test_more_jobs_may_start_than_mails_be_sent_but_not_many_more(
    rate_max: int, duration_ms: int, starts: int, window_ms: int
) -> None:
    limit = start_limit(rate_max, duration_ms)

    assert (limit.max, limit.duration) == (starts, window_ms)
    assert limit.max / window_ms >= 2 * rate_max / duration_ms


def test_without_a_rate_the_worker_still_has_a_limiter_so_that_it_obeys_a_pause() -> None:
    assert start_limit(None, 1000) == ANY_RATE
