"""Faults on real servers with real processes, judged by a ledger that no fault touches.

`python -m tests.chaos` runs the short form, `--full` the complete one (`make chaos`); `test_short.py` runs the short
form in CI. A scenario is a coroutine of one of the modules `crashes`, `freezes`, `servers`, `networks` and `volume`,
listed in `catalogue`. Each sets up a `stage` (server, queue, workers), does its faults and returns a `Report`.
"""
