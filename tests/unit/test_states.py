"""The table of states and transitions is complete and consistent with itself."""

from __future__ import annotations

import pytest

from pyqueue.states import TRANSITIONS, JobState


def test_states_are_the_strings_of_bullmq() -> None:
    assert [state.value for state in JobState] == [
        "waiting",
        "active",
        "delayed",
        "prioritized",
        "waiting-children",
        "completed",
        "failed",
        "unknown",
    ]


def test_a_state_is_its_string() -> None:
    assert JobState("waiting-children") is JobState.WAITING_CHILDREN
    assert f"{JobState.ACTIVE}" == "active"
    assert f"{ {JobState.ACTIVE: 1} }" == "{'active': 1}"


@pytest.mark.parametrize("state", list(JobState))
def test_every_state_can_be_entered_and_left(state: JobState) -> None:
    assert any(state in transition.targets for transition in TRANSITIONS.values())
    assert any(state in transition.sources for transition in TRANSITIONS.values())


def test_only_ready_jobs_are_claimed() -> None:
    into_active = {verb for verb, transition in TRANSITIONS.items() if JobState.ACTIVE in transition.targets}

    assert into_active == {"claim"}
    assert TRANSITIONS["claim"].sources == {JobState.WAITING, JobState.PRIORITIZED}


def test_only_active_jobs_finish() -> None:
    for verb, transition in TRANSITIONS.items():
        if transition.targets & {JobState.COMPLETED, JobState.FAILED}:
            assert transition.sources == {JobState.ACTIVE}, verb


def test_a_finished_job_leaves_its_state_only_by_a_request_or_its_retention() -> None:
    leaving = {verb for verb, transition in TRANSITIONS.items() if JobState.COMPLETED in transition.sources}

    assert leaving == {"reprocess", "retain", "remove", "clean", "obliterate"}
