"""What a scenario's processor does: return a value, raise an error with a given stack, or raise a directive."""

from __future__ import annotations

from typing import Any

from pyqueue import DelayJob, RateLimitJob, ReleaseJob, Unrecoverable, WaitForChildren
from tests.conformance.normal_form import SCRIPTED

Op = dict[str, Any]


def end_run(outcome: Op | None) -> Any:
    """End a run as the scenario says; the oracle's processor does the same."""
    outcome = outcome or {"type": "complete", "returnvalue": None}
    match outcome["type"]:
        case "complete":
            return outcome.get("returnvalue")
        case "fail":
            raise scripted_error(outcome)
        case "rateLimit":
            raise RateLimitJob
        case "delay":
            raise DelayJob(max(0, outcome["ms"]))
        case "wait":
            raise ReleaseJob
        case "waitChildren":
            raise WaitForChildren
        case unknown:
            message = f"unknown outcome {unknown}"
            raise scripted_error({"message": message, "stack": f"Error: {message}\n    at <frames>"})


def scripted_error(op: Op) -> Exception:
    """The error that a scenario raises: its message, and its stack, which travels in the name of the class."""
    message = op.get("message")
    message = "boom" if message is None else message
    is_final = bool(op.get("unrecoverable"))
    stack = op.get("stack")
    if stack is None:
        stack = f"{'UnrecoverableError' if is_final else 'Error'}: {message}\n    at oracle"
    base = Unrecoverable if is_final else Exception
    error: Exception = type(SCRIPTED + stack.encode("utf-8", "surrogatepass").hex(), (base,), {})(message)
    return error
