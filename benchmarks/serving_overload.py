"""The server under more than it can do: four times its capacity, for a minute.

For each door: its capacity (a closed loop), then an open loop at a multiple of it,
whatever the server answers, and then again one client alone, as before. What is no
answer has to be a refusal with a right code, and it has to end with the overload.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.load_tools import percentile
from benchmarks.process_watch import Watch, bounds
from benchmarks.serving_load import METHOD, Server, json_of, started, warmup_row

BATCHING = """
max_batch_size { value: 32 }
batch_timeout_micros { value: 1000 }
max_enqueued_batches { value: 4 }
num_batch_threads { value: 2 }
"""
TIMEOUT_S = 2.0
FLAGS = ("--monitoring", "--rest-timeout-seconds", str(TIMEOUT_S))
MOST_REQUESTS = 300_000
# Of REST each is a connection, and the server takes 1000.
MOST_FLYING = {"gRPC": 4000, "REST": 900}
LATE_S = 60.0  # for what is still under way at the end
# How refusals begin; each is the server's own, as no network makes these texts.
RIGHT = (
    "OK",
    "UNAVAILABLE: The batch scheduling queue",
    "RESOURCE_EXHAUSTED: Too many requests in flight",
    "RESOURCE_EXHAUSTED: Too many bytes of requests in flight",
    "RESOURCE_EXHAUSTED: Concurrent RPC limit exceeded",
    "RESOURCE_EXHAUSTED: Run() timeout exceeded",
    "DEADLINE_EXCEEDED",
)


@dataclass(frozen=True)
class Plan:
    """How much is asked.

    Attributes:
        seconds: Of the overload.
        short_s: Of each measurement before and after it.
        times: Rate of the overload, as a multiple of the capacity.
        flying: Requests at once where the capacity is measured.
        clients: Programs that ask in the overload.
        rest_s: Between the end of the overload and the first request after it.
    """

    seconds: float = 60.0
    short_s: float = 5.0
    times: float = 4.0
    flying: int = 64
    clients: int = 2
    rest_s: float = 1.0


@dataclass(frozen=True)
class Asked:
    """What came of requests.

    Attributes:
        asked, held_back: Requests, and those that the client could not make in time.
        seconds: Until the last answer.
        answers: {"OK", or code and reason: ms of each}.
    """

    asked: int
    held_back: int
    seconds: float
    answers: dict[str, list[float]]

    @property
    def ok_ms(self) -> list[float]:
        return self.answers.get("OK", [])

    @property
    def ok_per_s(self) -> float:
        return len(self.ok_ms) / self.seconds

    @property
    def wrong(self) -> dict[str, int]:
        """Answers that are neither right nor a refusal, and requests without one."""
        found = {
            reason: len(times)
            for reason, times in self.answers.items()
            if not reason.startswith(RIGHT)
        }
        lost = self.asked - sum(map(len, self.answers.values()))
        return found | ({"no answer": lost} if lost else {})


@dataclass(frozen=True)
class Outcome:
    """All measurements at one door; `rss_mb` before the overload, and at most."""

    door: str
    alone: Asked
    capacity: Asked
    over: Asked
    after: Asked
    rss_mb: tuple[float, float]
    offered_per_s: float

    @property
    def wrong(self) -> dict[str, int]:
        found = dict(self.over.wrong)
        for name, quiet in (
            ("alone", self.alone),
            ("capacity", self.capacity),
            ("after", self.after),
        ):
            refused = quiet.asked - len(quiet.ok_ms)
            if refused:
                found[f"not OK {name}"] = refused
        return found


def overload(server: Server, door: str, request, plan: Plan) -> Outcome:
    """Asks one door of a server alone, to its capacity, above it, and alone."""
    if door == "gRPC":
        target, path, body = server.grpc, METHOD, request.SerializeToString()
    else:
        target, body = server.rest, json_of(request)
        path = f"/v1/models/{request.model_spec.name}:predict"
    with tempfile.NamedTemporaryFile() as file, Watch(server.pid, 0.1) as watch:
        file.write(body)
        file.flush()
        words = ("--door", door, "--target", target, "--path", path)
        words += ("--body", file.name)

        def ask(seconds, **settings):
            return run_clients([*words, *_words(seconds=seconds, **settings)], 1)

        ask(plan.short_s / 2, flying=plan.flying)  # warms up
        alone = ask(plan.short_s, flying=1)
        capacity = ask(plan.short_s, flying=plan.flying)
        before = watch.samples[-1].rss_mb
        clients = plan.clients
        rate = min(plan.times * capacity.ok_per_s, MOST_REQUESTS / plan.seconds)
        settings = _words(
            seconds=plan.seconds,
            rate=rate / clients,
            flying=MOST_FLYING[door] // clients,
            timeout=TIMEOUT_S if door == "gRPC" else LATE_S,
        )
        over = run_clients([*words, *settings], clients)
        time.sleep(plan.rest_s)
        after = ask(plan.short_s, flying=1)
        most = bounds(watch.samples, "rss_mb")[1]
    offered = over.asked / plan.seconds
    return Outcome(door, alone, capacity, over, after, (before, most), offered)


def _words(**settings: float) -> list[str]:
    return [w for name, value in settings.items() for w in (f"--{name}", str(value))]


def run_clients(words: list[str], count: int) -> Asked:
    """Runs so many clients at once, and puts together what they have seen."""
    command = [sys.executable, "-m", "benchmarks.open_loop", *words]
    clients = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
        )
        for _ in range(count)
    ]
    total, answers = Asked(0, 0, 0.0, {}), defaultdict(list)
    for client in clients:
        said, _ = client.communicate()
        if client.returncode:
            sys.exit("A client has failed.")
        found = json.loads(said)
        for reason, times_ms in found.pop("answers").items():
            answers[reason] += times_ms
        total = replace(
            total,
            asked=total.asked + found["asked"],
            held_back=total.held_back + found["held_back"],
            seconds=max(total.seconds, found["seconds"]),
        )
    return replace(total, answers=dict(answers))


def show(outcome: Outcome, plan: Plan) -> None:
    """Prints the table of one door."""
    over, capacity = outcome.over, outcome.capacity
    print(f"\n{outcome.door}")
    print("                                        a second   p50 ms   p99 ms")
    _line("one client, before", outcome.alone)
    _line(f"capacity: {plan.flying} in flight", capacity)
    _line("overload: answers", over)
    for reason, times_ms in sorted(over.answers.items()):
        if reason != "OK":
            _row(f"  {reason}", len(times_ms) / over.seconds, times_ms)
    _line("one client, after", outcome.after)
    print(
        f"asked for {outcome.offered_per_s:,.0f} a second, "
        f"{outcome.offered_per_s / capacity.ok_per_s:.1f} times the capacity "
        f"({over.held_back} more held back by the client); "
        f"goodput {over.ok_per_s / capacity.ok_per_s:.2f} of the capacity"
    )
    before, after = (percentile(a.ok_ms, 0.5) for a in (outcome.alone, outcome.after))
    print(
        f"p50 of one client after against before: {after / before:.2f}; "
        f"memory {outcome.rss_mb[0]:.0f} MB before, at most {outcome.rss_mb[1]:.0f} MB"
    )


def _line(name: str, asked: Asked) -> None:
    _row(name, asked.ok_per_s, asked.ok_ms)


def _row(name: str, per_s: float, times_ms: list[float]) -> None:
    p50, p99 = (percentile(times_ms, s) if times_ms else 0.0 for s in (0.5, 0.99))
    print(f"{name:38.38s}  {per_s:8,.1f}  {p50:7.1f}  {p99:7.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--export", type=Path, required=True, help="versions of a run")
    parser.add_argument("--seconds", type=float, default=Plan.seconds)
    parser.add_argument("--times", type=float, default=Plan.times, help="the capacity")
    parser.add_argument("--clients", type=int, default=Plan.clients, help="programs")
    parser.add_argument("--doors", nargs="+", default=["gRPC", "REST"])
    words = parser.parse_args()
    plan = Plan(seconds=words.seconds, times=words.times, clients=words.clients)
    export = words.export.resolve()
    request = warmup_row(export)
    request.model_spec.name = "mmkeras"
    wrong = {}
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(BATCHING)
        file.flush()
        flags = (*FLAGS, "--batching-parameters-file", file.name)
        with started("overload", export, *flags) as server:
            for door in words.doors:
                outcome = overload(server, door, request, plan)
                show(outcome, plan)
                wrong |= {f"{door} {k}": n for k, n in outcome.wrong.items()}
    if wrong:
        sys.exit(f"Wrong: {wrong}")


if __name__ == "__main__":
    main()
