"""What a test needs to run Node beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


def skip_without_node(package: Path | None) -> None:
    """Skip where Node or this installed package is missing, which CI installs (`.ci/node-packages`)."""
    if shutil.which("node") is None or package is None or not package.is_dir():
        pytest.skip("Node or its packages are missing: install Node 20 or newer with npm, then run .ci/node-packages")
