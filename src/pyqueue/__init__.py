"""pyqueue: the asyncio job queue for Python with BullMQ's semantics and data model.

The public names, and nothing else: no logic, no optional dependency. Everything under a leading
underscore is private. `Queue` produces jobs, `Worker` runs them; the rest are their values.
"""

__all__: list[str] = []
