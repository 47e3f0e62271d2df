"""Jobs on the wire: the rows of an add call."""

from __future__ import annotations

import json

import pytest

from pyqueue._store.record import AddRow, encode_job, encode_template
from pyqueue._store.stored_options import decode_parent
from pyqueue.errors import ConfigurationError, PayloadError, PayloadTypeError
from pyqueue.options import Deduplication, JobOptions, ParentReference


def test_a_job_without_options_is_a_plain_row() -> None:
    assert encode_job("invite", {"to": "a"}) == AddRow(
        job_id="",
        name="invite",
        data='{"to":"a"}',
        opts='{"attempts":0}',
        timestamp_ms=0,
        delay_ms=0,
        priority=0,
        placement="",
        parent_key="",
        parent="",
        dedup="",
    )


def test_a_row_holds_what_the_script_decides_by() -> None:
    row = encode_job("x", None, JobOptions(job_id="a", timestamp=1, delay=2, priority=3, lifo=True))

    assert (row.job_id, row.timestamp_ms, row.delay_ms, row.priority, row.placement) == ("a", 1, 2, 3, "lifo")
    assert row.data == "null"
    assert row.dedup == row.parent == row.parent_key == ""


def test_a_flow_parent_waits_for_children_whatever_its_options() -> None:
    assert encode_job("x", {}, JobOptions(lifo=True), placement="children").placement == "children"


def test_a_child_names_its_parent_and_its_policy() -> None:
    row = encode_job("x", {}, JobOptions(parent={"id": "P", "queue": "bull:pages"}, ignore_dependency_on_failure=True))

    assert row.parent_key == "bull:pages:P"
    assert json.loads(row.parent) == {"id": "P", "queueKey": "bull:pages", "idof": True}
    assert decode_parent(row.parent) == ParentReference(id="P", queue="bull:pages")


def test_a_deduplicated_job_carries_its_rule() -> None:
    row = encode_job("x", {}, JobOptions(deduplication=Deduplication(id="D", ttl=5, extend=True)))

    assert json.loads(row.dedup) == {"id": "D", "ttl": 5, "extend": True}


def test_a_template_saves_encoding_the_same_options_again() -> None:
    options = JobOptions(attempts=3, delay=5, priority=2, lifo=True, size_limit=10)
    template = encode_template(options)

    assert encode_job("x", {"a": 1}, template) == encode_job("x", {"a": 1}, options)
    with pytest.raises(PayloadError, match="limit 10"):
        encode_job("x", "y" * 10, template)


def test_data_is_checked_before_anything_is_sent() -> None:
    with pytest.raises(PayloadTypeError, match=r"data\['a'\] is of type bytes"):
        encode_job("x", {"a": b"x"})
    with pytest.raises(PayloadError, match=r"beyond 2\*\*53"):
        encode_job("x", 2**60, strict_ints=True)
    with pytest.raises(PayloadError, match="data of job 'x' is too large: 5 bytes, limit 4"):
        encode_job("x", "abc", JobOptions(size_limit=4))
    with pytest.raises(ConfigurationError, match="job name is 5"):
        encode_job(5, {})  # type: ignore[arg-type]  # the wrong type is the test
