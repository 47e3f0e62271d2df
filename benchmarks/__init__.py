"""Benchmarks: the same work done by pyqueue and by its peers on one Redis, side by side in one run."""
