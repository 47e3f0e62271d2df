"""Conformance driver: one scenario on standard input, its report on standard output, as `oracle.mjs` does it.

    REDIS_PORT=6379 python tests/conformance/driver.py < tests/conformance/scenarios/001-add-standard.json

The scenario runs through pyqueue's own classes with an injected clock. Works from any directory, installed or from a
checkout. Exit code 2 for an operation that the vocabulary (README) does not have. The work is in `execution`.
"""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    root = Path(__file__).resolve().parents[2]
    sys.path[:] = [str(root), *sys.path, str(root / "src")]
    runpy.run_module("tests.conformance.execution", run_name="__main__")
