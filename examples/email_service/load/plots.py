"""The plots of a report, as SVG: one function per figure, each from the mails and samples of the run."""

import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from examples.email_service.load.generator import Run
from examples.email_service.load.watcher import Watch

# Text stays text, so that a figure can be searched; equal runs give equal files.
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "email-load", "axes.grid": True, "grid.alpha": 0.3})

_SIZE_INCHES = (9, 3)


def draw(run: Run, watched: Watch) -> dict[str, str]:
    """Name of each figure and its SVG."""
    figures: dict[str, Callable[[Axes, Run, Watch], None]] = {
        "arrivals-and-completions": arrivals_and_completions,
        "queue-depth": queue_depth,
        "answer-latency": answer_latency,
        "mail-latency": mail_latency,
        "share-per-instance": share_per_instance,
        "errors": errors,
    }
    return {name: _svg(function, run, watched) for name, function in figures.items()}


def arrivals_and_completions(axes: Axes, run: Run, watched: Watch) -> None:
    """Mails per second that were posted and that were finished."""
    axes.set_title("Arrivals and completions")
    axes.set_ylabel("mails/s")
    axes.step(*_per_second(mail.due_s for mail in run.mails), where="post", label="arrivals")
    axes.step(*_rate_of_completion(watched), where="post", label="completions")
    axes.legend()


def queue_depth(axes: Axes, _run: Run, watched: Watch) -> None:
    """Mails that are queued, by state."""
    axes.set_title("Queue depth")
    axes.set_ylabel("mails")
    times = [sample.at_s for sample in watched.samples]
    states = ("active", "waiting", "prioritized", "delayed")
    axes.stackplot(
        times,
        *([sample.counts.get(state, 0) for sample in watched.samples] for state in states),
        labels=states,
        alpha=0.7,
    )
    axes.legend(loc="upper right")


def answer_latency(axes: Axes, run: Run, _watched: Watch) -> None:
    """Percentiles of the time from when a request was due to its answer, second by second."""
    axes.set_title("Answers of the APIs")
    _percentiles(
        axes, [(mail.due_s, mail.answered_s - mail.due_s) for mail in run.mails if mail.answered_s is not None]
    )


def mail_latency(axes: Axes, run: Run, _watched: Watch) -> None:
    """Percentiles of the time from when a mail was due to the mail server's acceptance, second by second."""
    axes.set_title("Mails, from due to accepted by the mail server")
    _percentiles(
        axes, [(mail.due_s, mail.delivered_s - mail.due_s) for mail in run.mails if mail.delivered_s is not None]
    )


def share_per_instance(axes: Axes, _run: Run, watched: Watch) -> None:
    """How many mails each instance has sent, and the equal share."""
    axes.set_title("Mails per instance")
    axes.set_ylabel("mails")
    shares = dict(sorted(watched.processed.items()))
    axes.bar(list(shares), list(shares.values()))
    senders = [count for count in shares.values() if count]
    if senders:
        axes.axhline(sum(senders) / len(senders), linestyle="--", color="black", linewidth=1, label="equal shares")
        axes.legend(loc="lower right")


def errors(axes: Axes, run: Run, _watched: Watch) -> None:
    """Requests per second that were not answered with 202, by kind."""
    axes.set_title("Errors")
    axes.set_ylabel("requests/s")
    kinds = Counter(mail.error for mail in run.mails if mail.error is not None)
    for kind in sorted(kinds):
        axes.step(*_per_second(mail.due_s for mail in run.mails if mail.error == kind), where="post", label=kind)
    if kinds:
        axes.legend()
    else:
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", va="center")


def _svg(function: Callable[[Axes, Run, Watch], None], run: Run, watched: Watch) -> str:
    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    axes = figure.subplots()
    function(axes, run, watched)
    if axes.get_xlabel() == "" and function is not share_per_instance:
        axes.set_xlabel("seconds since the start")
    axes.set_ylim(bottom=0)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def _per_second(times: Iterable[float]) -> tuple[Sequence[float], Sequence[float]]:
    """Seconds, and how many of the times fall into each."""
    counts = Counter(int(time) for time in times)
    seconds = range(max(counts, default=0) + 2)
    return list(seconds), [float(counts[second]) for second in seconds]


def _rate_of_completion(watched: Watch) -> tuple[Sequence[float], Sequence[float]]:
    """Seconds, and mails finished per second, from the samples interpolated to whole seconds."""
    if len(watched.samples) < 2:
        return [], []
    seconds = np.arange(0, watched.samples[-1].at_s)
    finished = np.interp(
        seconds, [sample.at_s for sample in watched.samples], [sample.finished for sample in watched.samples]
    )
    return seconds[:-1].tolist(), np.diff(finished).tolist()


def _percentiles(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    by_second: dict[int, list[float]] = {}
    for due_s, latency_s in points:
        by_second.setdefault(int(due_s), []).append(1000 * latency_s)
    seconds = sorted(by_second)
    for percentile in (50, 95, 99):
        values = [float(np.percentile(by_second[second], percentile)) for second in seconds]
        axes.plot(seconds, values, label=f"p{percentile}")
    axes.set_ylabel("ms")
    axes.legend()
