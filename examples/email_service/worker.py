"""The worker alone: the process that sends mails and has no API.

    python -m examples.email_service.worker

It listens on PORT (8001) for probes only: /livez, /readyz, /health, /metrics. On SIGTERM or SIGINT it claims nothing
more, finishes what it sends, hands back what is not finished in time, and exits 0 within SHUTDOWN_TIMEOUT.
"""

from starlette.applications import Starlette

from examples.email_service.instance import Instance
from examples.email_service.probes import Probes
from examples.email_service.serving import application, run_process
from examples.email_service.settings import load_settings

DEFAULT_PORT = 8001


def create_app(instance: Instance) -> Starlette:
    """The ASGI application of a worker: its probes, and the worker as its lifespan."""
    return application(instance.lifespan, Probes(instance).routes())


def main() -> None:
    """Entry point of the standalone worker."""
    instance = Instance(load_settings(), "worker")
    run_process(instance, create_app(instance), DEFAULT_PORT)


if __name__ == "__main__":
    main()
