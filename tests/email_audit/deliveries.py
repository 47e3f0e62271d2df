"""Nothing is lost, nothing is sent twice: mails through several APIs while workers are killed and all are restarted.

The one excuse for a second copy is a worker that died between the server's acceptance and its note in the send ledger;
its successor logs that it sends again, and every second copy must have such a line.
"""

from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from time import monotonic

import anyio
import httpx

from examples.email_service.demo import read_jobs
from examples.email_service.mail import message_id
from examples.email_service.traffic import Fate, PlannedInvite, plan_invites
from tests.email_audit.stage import Stage, staged

POSTS_IN_FLIGHT = 50
AHEAD = 300


@dataclass(slots=True)
class Deliveries:
    """What happened, and what must not have."""

    mails: int
    delivered: int = 0
    posts: int = 0
    reposts: int = 0
    """Posts whose answer was lost with their API, posted again to another."""
    duplicates: int = 0
    """Posts that were answered as duplicates."""
    kills: int = 0
    taken_back: int = 0
    """Jobs of dead workers."""
    sent_again: int = 0
    """Mails whose fate the death of their worker left open, so that they were sent again."""
    prevented: int = 0
    """Jobs that ran again and were not sent again, because the ledger knew."""
    doubled: int = 0
    """Second copies: sent again although the server had accepted the first."""
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    """Empty when nothing is lost and every second copy has its excuse."""


async def audit_deliveries(
    directory: Path, *, mails: int, apis: int = 3, workers: int = 2, kill_every_s: float = 4.0, timeout: float = 900.0
) -> Deliveries:
    """One run; `directory` is empty."""
    seen = Deliveries(mails)
    async with staged(directory, email_concurrency=10, lock_duration_ms=3000, stalled_interval_ms=1000) as stage:
        await stage.start(apis, workers)
        invites = plan_invites(mails)
        started = monotonic()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_disturb, stage, seen, kill_every_s)
            await _post_all(stage, invites, seen)
            await stage.wait_finished(mails, timeout)
            tasks.cancel_scope.cancel()
        seen.seconds = monotonic() - started
        await stage.end()
        await _judge(stage, invites, seen)
    return seen


async def _disturb(stage: Stage, seen: Deliveries, kill_every_s: float) -> None:
    """Kill the workers in turn; when half of the mails are out, restart everything once."""
    restarted = False
    while True:
        await anyio.sleep(kill_every_s)
        if not restarted and stage.sink.ledger.deliveries * 2 >= seen.mails:
            restarted = True
            with anyio.CancelScope(shield=True):
                await stage.restart_everything()
        with anyio.CancelScope(shield=True):  # a killed worker has its successor, also at the end
            await stage.kill_worker(stage.workers[0])
        seen.kills += 1


async def _post_all(stage: Stage, invites: list[PlannedInvite], seen: Deliveries) -> None:
    """Every invite as often as planned, the copies at the same moment through different APIs.

    Not all at once: posts keep a little ahead of the deliveries, so that they meet every kill and restart.
    """
    slots = anyio.CapacityLimiter(POSTS_IN_FLIGHT)
    ledger = stage.sink.ledger

    async def post(invite: PlannedInvite, copy: int) -> None:
        async with slots:
            await _post(stage, client, invite, copy, seen)

    async with httpx.AsyncClient(timeout=30, trust_env=False) as client, anyio.create_task_group() as tasks:
        for number, invite in enumerate(invites):
            while number > ledger.deliveries + ledger.refused.total() + AHEAD:  # noqa: ASYNC110 (other processes deliver)
                await anyio.sleep(0.05)
            for copy in range(invite.posts):
                tasks.start_soon(post, invite, copy)


async def _post(stage: Stage, client: httpx.AsyncClient, invite: PlannedInvite, copy: int, seen: Deliveries) -> None:
    """Post until an API has answered: whoever got no answer asks another one, which is safe, the id is the same."""
    for attempt in count():
        urls = list(stage.apis.values())
        url = urls[(invite.number + copy + attempt) % len(urls)]
        seen.posts += 1
        try:
            response = await client.post(f"{url}/api/invites", json=invite.body)
        except httpx.HTTPError:
            seen.reposts += 1
            await anyio.sleep(0.05)
            continue
        if response.status_code == 503:
            seen.reposts += 1
            await anyio.sleep(0.5)
            continue
        if response.status_code != 202:
            seen.faults.append(f"{invite.job_id}: {response.status_code} {response.text}")
        elif response.json()["duplicate"]:
            seen.duplicates += 1
        return


async def _judge(stage: Stage, invites: list[PlannedInvite], seen: Deliveries) -> None:
    accepted = stage.sink.ledger.accepted
    copies = {one.job_id: accepted[message_id(one.job_id, stage.settings.email_from), one.to] for one in invites}
    unsure = {line["job_id"] for line in stage.logged("mail may have been sent before: sending it again")}
    doubled = [job_id for job_id, number in copies.items() if number > 1]
    lost = [one.job_id for one in invites if one.fate is not Fate.UNKNOWN and not copies[one.job_id]]
    seen.delivered = sum(1 for number in copies.values() if number)
    seen.taken_back = len(stage.logged("mail of a dead worker taken back"))
    seen.prevented = len(stage.logged("mail was sent before, by a run that did not end"))
    seen.sent_again = len(unsure)
    seen.doubled = sum(number - 1 for number in copies.values() if number > 1)
    seen.faults += stage.faults
    seen.faults += [f"lost: {job_id}" for job_id in lost]
    seen.faults += [f"doubled without an excuse: {job_id}" for job_id in doubled if job_id not in unsure]
    seen.faults += await _wrong_states(stage, invites)


async def _wrong_states(stage: Stage, invites: list[PlannedInvite]) -> list[str]:
    """A mail that was refused is a dead letter, every other job is completed; and there are no more jobs."""
    wanted = {one.job_id: "failed" if one.fate is Fate.UNKNOWN else "completed" for one in invites}
    states = {job.job_id: job.state for job in await read_jobs(stage.queue)}
    return [
        f"{job_id} is {states.get(job_id, 'missing')}, expected {wanted.get(job_id, 'missing')}"
        for job_id in sorted(wanted.keys() | states.keys())
        if states.get(job_id) != wanted.get(job_id)
    ]
