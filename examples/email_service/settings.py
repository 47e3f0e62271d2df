"""What an instance of the e-mail service reads from its environment, and nothing else.

Every process of the service (`api`, `worker`) builds one `Settings` at start and hands it down; no other module looks
at the environment. A missing or bad value ends the process at once with the name of the variable.
"""

import os
import socket
from pathlib import Path
from typing import Literal, Self

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from examples.email_service.addresses import EmailAddress

_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")

# Mails at a time by CPUs: sending is waiting, but one event loop serves them all and one CPU also does everything else.
_CONCURRENCY_BY_CPUS = {1: 3, 2: 10, 3: 15}
_CONCURRENCY_PER_CPU = 5

# Of the shutdown timeout, what is kept back for settling and closing after the last mail was waited for.
_CLOSING_SHARE = 0.4
_CLOSING_MAX_S = 5.0


def host_and_pid() -> str:
    """The instance id of last resort: unique on this host at this moment, different after every restart."""
    return f"{socket.gethostname()}-{os.getpid()}"


def available_cpus(quota_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """CPUs that this process may use: those it is bound to, or fewer where a container has a quota; at least 1."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text().split()
        limited = round(int(quota) / int(period))
    except (OSError, ValueError):  # no cgroup v2 here, or "max": no quota
        return bound
    return max(1, min(bound, limited))


def default_concurrency(cpus: int | None = None) -> int:
    """Mails that one instance sends at a time: 3 on one CPU, 10 on two, 20 on four, 5 more for each further one."""
    cpus = available_cpus() if cpus is None else cpus
    return _CONCURRENCY_BY_CPUS.get(cpus, _CONCURRENCY_PER_CPU * cpus)


class Settings(BaseSettings):
    """Configuration of one instance. Each field is the environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, populate_by_name=True)

    redis_url: str = Field(
        repr=False,
        description="Where the queue lives: redis://, rediss:// or unix://. Never logged: it may carry a password.",
        examples=["redis://localhost:6379"],
    )
    queue_name: str = Field(default="email", description="Name of the queue; all instances of one service share it.")
    queue_prefix: str = Field(default="bull", description="First part of every Redis key of the queue.")

    instance_id: str = Field(
        default_factory=host_and_pid,
        validation_alias=AliasChoices("INSTANCE_ID", "HOSTNAME"),
        min_length=1,
        max_length=200,
        description="Name of this instance in logs, metrics and jobs: INSTANCE_ID, else HOSTNAME, else host-pid.",
    )
    start_email_worker: bool = Field(default=True, description="Whether an API instance also sends mails.")

    api_host: str = Field(default="127.0.0.1", description="Address on which an instance listens; 0.0.0.0 for all.")
    port: int | None = Field(
        default=None,
        validation_alias=AliasChoices("PORT", "API_PORT"),
        ge=0,
        le=65535,
        description="Port of an API, or of the probes of a worker; 0 takes a free one and logs it (8000, worker 8001).",
    )

    smtp_host: str = Field(description="Host of the mail server.", examples=["localhost"])
    smtp_port: int = Field(default=25, ge=1, le=65535, description="Port of the mail server.")
    smtp_user: str | None = Field(default=None, description="Login at the mail server; with SMTP_PASS.")
    smtp_pass: SecretStr | None = Field(default=None, description="Password of SMTP_USER.")
    smtp_tls: Literal["auto", "none", "starttls", "tls"] = Field(
        default="auto",
        description="auto: STARTTLS where the server offers it; starttls: or not at all; tls: from the first byte.",
    )
    smtp_ca_file: Path | None = Field(
        default=None, description="Certificates that sign the mail server's, if not the system's."
    )
    smtp_max_connections: int = Field(
        default=5, ge=1, le=1000, description="Connections of one instance to the mail server; all instances add up."
    )
    smtp_timeout: float = Field(default=30.0, gt=0, description="Seconds to wait for each reply of the mail server.")
    smtp_pause: float = Field(
        default=10.0,
        gt=0,
        description="Seconds for which all instances pause after a 421 that names no time of its own.",
    )
    smtp_breaker_failures: int = Field(
        default=5, ge=1, description="Failed connections in a row, over all instances, after which sending pauses."
    )
    smtp_breaker_cooldown: float = Field(
        default=5.0, gt=0, description="Seconds until the first probe of a server that failed; doubles up to a minute."
    )

    email_from: EmailAddress = Field(
        default="invites@example.org", description="Sender of every mail; its domain signs them."
    )
    email_concurrency: int = Field(
        default_factory=default_concurrency,
        ge=1,
        le=1000,
        description="Mails that one instance sends at the same time; by CPUs: 1 -> 3, 2 -> 10, 4 -> 20.",
    )
    email_rate_max: int | None = Field(
        default=None, ge=1, description="Mails that all instances together send per EMAIL_RATE_DURATION; unset: any."
    )
    email_rate_duration: int = Field(
        default=1000, ge=1, le=86_400_000, description="Milliseconds of EMAIL_RATE_MAX, in any sliding window."
    )

    lock_duration_ms: int = Field(
        default=30_000, ge=1000, description="Milliseconds for which a mail belongs to a worker that has gone silent."
    )
    stalled_interval_ms: int = Field(
        default=30_000, ge=500, description="Milliseconds between two looks for the mails of dead workers."
    )
    shutdown_timeout: float = Field(
        default=30.0,
        gt=0,
        description="Seconds from SIGTERM to the end; mails still in progress then go back to the queue.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least level that is logged."
    )

    @field_validator("redis_url")
    @classmethod
    def _check_scheme(cls, url: str) -> str:
        if not url.startswith(_REDIS_SCHEMES):
            raise ValueError(f"must begin with {', '.join(_REDIS_SCHEMES[:-1])} or {_REDIS_SCHEMES[-1]}")
        return url

    @model_validator(mode="after")
    def _check_login(self) -> Self:
        if (self.smtp_user is None) != (self.smtp_pass is None):
            there, missing = ("SMTP_USER", "SMTP_PASS") if self.smtp_pass is None else ("SMTP_PASS", "SMTP_USER")
            raise ValueError(f"{missing} is missing although {there} is set; set both or neither")
        return self

    @property
    def http_grace(self) -> float:
        """Seconds of the shutdown timeout that an instance gives to requests in progress (a quarter)."""
        return self.shutdown_timeout / 4

    @property
    def worker_grace(self) -> float:
        """Seconds from SIGTERM in which mails in progress may end; the rest is for handing back and closing."""
        return self.shutdown_timeout - min(_CLOSING_MAX_S, self.shutdown_timeout * _CLOSING_SHARE)

    @property
    def pool_size(self) -> int:
        """Connections to the mail server: no more than mails at a time could use."""
        return min(self.smtp_max_connections, self.email_concurrency)

    def environment(self) -> dict[str, str]:
        """The environment from which another process builds the same settings."""
        values = {name.upper(): getattr(self, name) for name in type(self).model_fields}
        return {name: _as_text(value) for name, value in values.items() if value is not None}


def _as_text(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def load_settings(**fixed: object) -> Settings:
    """Read the environment, or end the process with one line for each variable that is wrong.

    `fixed` are fields by their names that the environment does not decide.
    """
    try:
        return Settings(**fixed)  # type: ignore[arg-type]  # validated by the model
    except ValidationError as error:
        raise SystemExit("\n".join(_complaints(error))) from None


def _complaints(error: ValidationError) -> list[str]:
    return [
        f"bad configuration: {_complaint('.'.join(map(str, one['loc'])), one['type'], one['msg'])}"
        for one in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def _complaint(field: str, kind: str, message: str) -> str:
    if kind == "missing":
        example = (Settings.model_fields[field].examples or ["..."])[0]
        return f"{field.upper()} is missing; set it, for example {field.upper()}={example}"
    message = message.removeprefix("Value error, ")
    return f"{field.upper()}: {message}" if field else message
