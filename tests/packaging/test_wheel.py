"""What users install: the wheel built from the sdist carries the scripts and runs a job in an empty environment."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import Final

import pytest

from tests.support.server import RedisServer

# Building and installing takes a minute on a slow network; one xdist worker does it once.
pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("packaging")]

ROOT: Final = Path(__file__).resolve().parents[2]

ONE_JOB: Final = """
import asyncio, sys, pyqueue
from pyqueue import Job, Queue, Worker

async def main(url: str) -> None:
    done = asyncio.Event()

    async def process(job: Job) -> str:
        return "hello " + job.data["to"]

    async with Queue("greetings", connection=url) as queue, Worker("greetings", process, connection=url) as worker:
        worker.on("completed", lambda *_: done.set())
        job = await queue.add("greet", {"to": "Ada"})
        await asyncio.wait_for(done.wait(), 10)
        print(pyqueue.__file__, await job.state(), (await queue.jobs.get(job.id)).return_value, sep="|")

asyncio.run(main(sys.argv[1]))
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command; its whole output in the failure."""
    result = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def lua_files(directory: Path) -> dict[str, bytes]:
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*.lua")}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution."""
    target = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", target, cwd=ROOT)
    (archive,) = target.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(target, filter="data")
    return target / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """The wheel, built from the sdist as an installer without a wheel would."""
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", sdist / "dist", cwd=sdist)
    (archive,) = (sdist / "dist").glob("*.whl")
    return archive


def test_the_sdist_carries_sources_scripts_tests_and_the_texts_at_the_top(sdist: Path) -> None:
    assert lua_files(sdist / "lua") == lua_files(ROOT / "lua")
    expected = {"CHANGELOG.md", "LICENSE", "Makefile", "README.md", "pyproject.toml", "src", "tests"}
    assert expected <= {path.name for path in sdist.iterdir()}


def test_the_wheel_carries_the_package_and_exactly_the_scripts_of_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    assert lua_files(tmp_path / "pyqueue" / "_lua") == lua_files(ROOT / "lua")
    assert (tmp_path / "pyqueue" / "py.typed").exists()
    top = {path.name for path in tmp_path.iterdir()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"pyqueue"}


@pytest.mark.needs_server
def test_the_wheel_runs_a_job_in_an_empty_environment(wheel: Path, tmp_path: Path, server: RedisServer) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, cwd=tmp_path)
    location, state, value = run(python, "-I", "-c", ONE_JOB, server.url, cwd=tmp_path).strip().split("|")
    assert Path(location).is_relative_to(tmp_path / "env")
    assert (state, value) == ("completed", "hello Ada")
