"""The verdict of the demonstration: compares what was posted with what the mail server accepted and the queue recorded.

Pure: takes what others observed, returns a `Report`. A mail is lost when its address takes mail and none was accepted;
doubled when the server accepted it twice.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from examples.email_service.smtp_sink import Ledger
from examples.email_service.traffic import Answers, Fate, PlannedInvite

COMPLETED = "completed"
FAILED = "failed"


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What the queue says about one job at the end."""

    job_id: str
    state: str
    attempts_made: int
    attempts_started: int
    processed_by: str

    @property
    def was_taken_over(self) -> bool:
        """Whether a run of it ended without a word: its worker died, or lost the lock."""
        return self.attempts_started > self.attempts_made


@dataclass(frozen=True, slots=True)
class Observations:
    """Everything that was seen, from the first post to the end of the last child."""

    invites: Sequence[PlannedInvite]
    ledger: Ledger
    message_id: Callable[[str], str]
    """Job id -> Message-ID that its mail bears."""
    jobs: Sequence[JobRecord]
    stats: Mapping[str, Mapping[str, int]]
    """API instance -> what its stats endpoint said at the end."""
    answers: Answers
    """What the instances answered to the posts."""
    faults: Sequence[str]
    """What else went wrong on the way: not finished in time, children that ended badly."""
    takeovers_allowed: int
    """Jobs that a killed worker may have been running: another runs them again, and such a mail may arrive twice."""


@dataclass(frozen=True, slots=True)
class Report:
    """The numbers of the closing table, and every reason why the run is not good."""

    invites: int
    posts: int
    duplicates: int
    delivered: int
    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    retried: int
    dead: int
    taken_over: int
    per_instance: Mapping[str, int]
    faults: tuple[str, ...]
    """Empty when nothing is lost, nothing doubled unless its worker was killed, and all books agree."""


def audit(seen: Observations) -> Report:
    """Count, compare, and list every disagreement."""
    copies = {invite.job_id: _copies(invite, seen) for invite in seen.invites}
    deliverable = [invite.job_id for invite in seen.invites if invite.fate is not Fate.UNKNOWN]
    lost = tuple(job_id for job_id in deliverable if not copies[job_id])
    doubled = tuple(job_id for job_id, count in copies.items() if count > 1)
    return Report(
        invites=len(seen.invites),
        posts=sum(invite.posts for invite in seen.invites),
        duplicates=seen.answers.duplicates.total(),
        delivered=sum(1 for count in copies.values() if count),
        lost=lost,
        doubled=doubled,
        retried=sum(1 for job in seen.jobs if job.attempts_made > 1),
        dead=sum(1 for job in seen.jobs if job.state == FAILED),
        taken_over=sum(1 for job in seen.jobs if job.was_taken_over),
        per_instance=dict(sorted(Counter(job.processed_by for job in seen.jobs).items())),
        faults=(
            *seen.faults,
            *seen.answers.faults,
            *_name("lost", lost),
            *_unexcused(doubled, seen),
            *_wrong_answers(seen),
            *_strays(seen),
            *_wrong_states(seen),
            *_wrong_attempts(seen),
            *_wrong_stats(seen),
        ),
    )


def _copies(invite: PlannedInvite, seen: Observations) -> int:
    return seen.ledger.accepted[seen.message_id(invite.job_id), invite.to]


def _unexcused(doubled: Sequence[str], seen: Observations) -> Iterable[str]:
    """Doubled mails that no kill explains, and takeovers that none explains."""
    taken_over = {job.job_id for job in seen.jobs if job.was_taken_over}
    yield from _name("doubled", [job_id for job_id in doubled if job_id not in taken_over])
    if len(taken_over) > seen.takeovers_allowed:
        yield from _name(f"run again by another worker (at most {seen.takeovers_allowed})", sorted(taken_over))


def _wrong_answers(seen: Observations) -> Iterable[str]:
    """Of the posts of one invite exactly one makes the job; each other one is told that it is a duplicate."""
    for invite in seen.invites:
        duplicates = seen.answers.duplicates[invite.job_id]
        if duplicates != invite.posts - 1 and not seen.answers.faults:
            yield f"{invite.job_id} was posted {invite.posts} times and called a duplicate {duplicates} times"


def _strays(seen: Observations) -> Iterable[str]:
    """Mails that the server accepted and nobody should have sent."""
    wanted = {(seen.message_id(one.job_id), one.to) for one in seen.invites if one.fate is not Fate.UNKNOWN}
    return _name(
        "accepted but not wanted", [f"{mail} to {to}" for mail, to in seen.ledger.accepted if (mail, to) not in wanted]
    )


def _wrong_states(seen: Observations) -> Iterable[str]:
    """Every invite is one job: a dead one in failed, any other in completed; and there is no other job."""
    states = {job.job_id: job.state for job in seen.jobs}
    wanted = {one.job_id: FAILED if one.fate is Fate.UNKNOWN else COMPLETED for one in seen.invites}
    for job_id in sorted(states.keys() | wanted.keys()):
        state, expected = states.get(job_id, "missing"), wanted.get(job_id, "missing")
        if state != expected:
            yield f"{job_id} is {state}, expected {expected}"
    if len(states) != len(seen.jobs):
        yield f"{len(seen.jobs) - len(states)} jobs are listed twice"


def _wrong_attempts(seen: Observations) -> Iterable[str]:
    """One attempt for a mail that is taken or refused at once, two for a greylisted one.

    Not judged: jobs that were taken over. Their first run may or may not have reached the mail server.
    """
    wanted = {one.job_id: 2 if one.fate is Fate.GREYLISTED else 1 for one in seen.invites}
    for job in seen.jobs:
        expected = wanted.get(job.job_id, job.attempts_made)
        if job.attempts_made != expected and not job.was_taken_over:
            yield f"{job.job_id} took {job.attempts_made} attempts, expected {expected}"


def _wrong_stats(seen: Observations) -> Iterable[str]:
    """The stats endpoint of every instance must say what the jobs say."""
    states = Counter(job.state for job in seen.jobs)
    for instance, stats in seen.stats.items():
        for state, count in stats.items():
            if count != states[state]:
                yield f"stats of {instance}: {count} {state}, but there are {states[state]}"


def _name(what: str, which: Sequence[str]) -> tuple[str, ...]:
    return (f"{len(which)} {what}: {', '.join(which[:10])}{', ...' if len(which) > 10 else ''}",) if which else ()
