"""What an instance of the e-mail service reads from its environment, and nothing else.

Every process of the service (`api`, `worker`) builds one `Settings` at start and hands it down; no other module looks
at the environment. A bad value ends the process at once with the name of the variable.
"""

import os
import socket
from typing import Literal

from pydantic import AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from examples.email_service.addresses import EmailAddress


def host_and_pid() -> str:
    """The instance id of last resort: unique on this host at this moment, different after every restart."""
    return f"{socket.gethostname()}-{os.getpid()}"


class Settings(BaseSettings):
    """Configuration of one instance. Each field is the environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, populate_by_name=True)

    redis_url: str = Field(
        default="redis://localhost:6379",
        repr=False,
        description="Where the queue lives; any URL that pyqueue takes. Never logged: it may carry a password.",
    )
    queue_name: str = Field(default="email", description="Name of the queue; all instances of one service share it.")
    queue_prefix: str = Field(default="bull", description="First part of every Redis key of the queue.")

    instance_id: str = Field(
        default_factory=host_and_pid,
        validation_alias=AliasChoices("INSTANCE_ID", "HOSTNAME"),
        min_length=1,
        max_length=200,
        description="Name of this instance in logs and in the jobs it ran: INSTANCE_ID, else HOSTNAME, else host-pid.",
    )
    start_email_worker: bool = Field(default=True, description="Whether an API instance also sends mails.")

    api_host: str = Field(default="127.0.0.1", description="Address on which an API instance listens.")
    api_port: int = Field(
        default=8000, ge=0, le=65535, description="Port of an API instance; 0 takes a free one and logs it."
    )

    smtp_host: str = Field(default="localhost", description="Host of the mail server.")
    smtp_port: int = Field(default=25, ge=1, le=65535, description="Port of the mail server.")
    smtp_timeout: float = Field(default=30.0, gt=0, description="Seconds to wait for each reply of the mail server.")
    email_from: EmailAddress = Field(
        default="invites@example.org", description="Sender of every mail; its domain signs them."
    )
    email_concurrency: int = Field(
        default=10, ge=1, le=1000, description="Mails that one instance sends at the same time."
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

    @property
    def http_grace(self) -> float:
        """Seconds of the shutdown timeout that an API instance gives to requests in progress (a quarter)."""
        return self.shutdown_timeout / 4

    @property
    def worker_grace(self) -> float:
        """Seconds of the shutdown timeout that remain for mails in progress after the requests are done."""
        return self.shutdown_timeout - self.http_grace


def load_settings() -> Settings:
    """Read the environment, or end the process with one line for each variable that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        raise SystemExit("\n".join(_complaints(error))) from None


def _complaints(error: ValidationError) -> list[str]:
    return [
        f"bad configuration: {'.'.join(str(part) for part in one['loc']).upper()}: {one['msg']}"
        for one in error.errors(include_url=False, include_context=False, include_input=False)
    ]
