"""Flows in parts: planning a tree, staging a large one, reading one back. `pyqueue.flow` is their face."""
