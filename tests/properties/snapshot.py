"""What Redis holds for one queue, read behind the library's back, and what must be true of it whatever happened.

`Looker` reads; `check_invariants` knows no model: it judges a snapshot by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pyqueue._redis.keys import SUFFIXES, QueueKeys
from tests.properties.places import JOBS_PER_MS

LISTS: Final = ("wait", "active", "paused")
ZSETS: Final = ("prioritized", "delayed", "completed", "failed", "waiting_children", "marker")
PLACES: Final = ("wait", "active", "paused", "prioritized", "delayed", "completed", "failed", "waiting_children")
#: Fields of a job that the model knows.
FIELDS: Final = (
    "name", "data", "timestamp", "delay", "priority", "atm", "ats", "stc", "defa", "processedOn", "finishedOn",
    "failedReason", "returnvalue",
)  # fmt: skip
COUNTERS: Final = ("atm", "ats", "stc")
SETTINGS: Final = ("paused", "concurrency")


@dataclass(frozen=True)
class Snapshot:
    """One queue at one moment."""

    image: dict[str, Any]
    """Its keys, in the form of `Places.image`."""
    events: list[dict[str, str]]
    """What was announced since the snapshot before."""
    places: Mapping[str, list[str]]
    """Ids per place."""
    keys: frozenset[str]
    """Names of all keys, without the part that they share."""


class Looker:
    """Reads snapshots of one queue with a synchronous client (`decode_responses=True`) of its own."""

    def __init__(self, client: Any, keys: QueueKeys) -> None:
        self._client = client
        self._keys = keys
        self._last_event = "-"

    def look(self) -> Snapshot:
        """Two round trips and a scan."""
        keys = frozenset(self._client.scan_iter(match=f"{self._keys.base}*", count=1000))
        raw = self._read_queue()
        places = {name: list(raw[name]) for name in PLACES}
        job_ids = sorted({job_id for ids in places.values() for job_id in ids})
        hashes, locks = self._read_jobs(job_ids)
        zsets = {name: dict(raw[name]) for name in ZSETS if name != "waiting_children"}
        image = {
            **{name: raw[name] for name in ("wait", "active", "stalled")},
            **zsets,
            "meta": {name: value for name, value in raw["meta"].items() if name in SETTINGS},
            "id": int(raw["id"] or 0),
            "pc": int(raw["pc"] or 0),
            "locks": locks,
            "hashes": hashes,
        }
        return Snapshot(image, self._new_events(raw["events"]), places, frozenset(map(self._short, keys)))

    def _read_queue(self) -> dict[str, Any]:
        names = [*LISTS, *ZSETS, "stalled", "meta", "id", "pc", "events"]
        pipe = self._client.pipeline(transaction=False)
        for name in LISTS:
            pipe.lrange(getattr(self._keys, name), 0, -1)
        for name in ZSETS:
            pipe.zrange(getattr(self._keys, name), 0, -1, withscores=True)
        pipe.smembers(self._keys.stalled)
        pipe.hgetall(self._keys.meta)
        pipe.get(self._keys.id)
        pipe.get(self._keys.pc)
        pipe.xrange(self._keys.events, min=self._last_event)
        raw = dict(zip(names, pipe.execute(), strict=True))
        return {name: dict(value) if name in ZSETS else value for name, value in raw.items()}

    def _read_jobs(self, job_ids: list[str]) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
        pipe = self._client.pipeline(transaction=False)
        for job_id in job_ids:
            pipe.hgetall(self._keys.job(job_id))
        for job_id in job_ids:
            pipe.get(self._keys.lock(job_id))
        replies = pipe.execute() if job_ids else []
        hashes = {
            job_id: {**dict.fromkeys(COUNTERS, "0"), **{name: stored[name] for name in FIELDS if name in stored}}
            for job_id, stored in zip(job_ids, replies, strict=False)
            if stored
        }
        locks = zip(job_ids, replies[len(job_ids) :], strict=True)
        return hashes, {job_id: token for job_id, token in locks if token is not None}

    def _new_events(self, entries: list[tuple[str, dict[str, str]]]) -> list[dict[str, str]]:
        # From the last one seen on, which may have gone with the queue. `(id` is not understood by every server.
        new = [(entry_id, fields) for entry_id, fields in entries if entry_id != self._last_event]
        if entries:
            self._last_event = entries[-1][0]
        return [fields for _, fields in new]

    def _short(self, key: str) -> str:
        return key.removeprefix(self._keys.base)


def check_invariants(seen: Snapshot, *, unlocked: frozenset[str], knows_ready: bool, knows_due: bool) -> None:
    """What is true of every queue.

    unlocked: active jobs whose holders are known to be dead. knows_ready, knows_due: a worker has taken the marker of
    ready or of delayed jobs and looks again by itself.
    """
    image = seen.image
    places = Counter(job_id for ids in seen.places.values() for job_id in ids)
    assert set(places.values()) <= {1}, f"a job is in more than one state: {places}"
    assert image["hashes"].keys() == places.keys(), "an id without a hash"
    assert not _strange_keys(seen), "a key that belongs to no job"
    assert image["locks"].keys() <= set(image["active"]), "a lock of a job that is not active"
    assert set(image["active"]) <= image["locks"].keys() | unlocked, "an active job that nobody holds"
    for name in ("completed", "failed"):
        ends = {job_id: int(image["hashes"][job_id]["finishedOn"]) for job_id in image[name]}
        assert ends == image[name], f"{name} is not in the order of its ends"
    if not image["meta"]:
        _check_markers(image, knows_ready, knows_due)


def _check_markers(image: dict[str, Any], knows_ready: bool, knows_due: bool) -> None:
    """Somebody wakes up for every job of a queue that is neither paused nor limited."""
    if image["wait"] or image["prioritized"]:
        assert knows_ready or "0" in image["marker"], "jobs are ready, and no worker wakes up"
    elif image["delayed"] and not knows_due:
        first = min(image["delayed"].values()) / JOBS_PER_MS
        assert "0" in image["marker"] or image["marker"].get("1", first + 1) <= first, "a worker wakes up too late"


def _strange_keys(seen: Snapshot) -> set[str]:
    own = {suffix for suffix in SUFFIXES.values() if not suffix.startswith("metrics")}
    hashes = seen.image["hashes"]
    of_jobs = {f"{job_id}{end}" for job_id in hashes for end in ("", ":lock", ":logs")}
    return {key for key in seen.keys - own - of_jobs if not key.startswith("pyq:x:")}
