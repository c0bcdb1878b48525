"""`make conformance`: the official suite, directly and through our proxy, compared check by check.

python -m scripts.conformance [--form FORM ...] [--set-up SET_UP ...] [--no-client]

The exit status is 1 if a check that passes directly is lost without being an exception in
docs/conformance.md, or if an exception no longer applies.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from scripts import conformance_authorization, npm, round_robin
from scripts.conformance_checks import Checks, lost, passing
from scripts.conformance_exceptions import DOCUMENT, Exceptions, TableError, read
from scripts.conformance_servers import (
    BACKEND,
    FORMS,
    SET_UPS,
    TWICE,
    NotServing,
    Pair,
    backend,
    before_tasks,
    tasks_backend,
)
from scripts.conformance_suite import (
    CLIENT_SCENARIOS,
    REVISIONS,
    judge_client,
    judge_server,
    judge_tasks,
    warm_up,
)
from scripts.machine import ROOT
from scripts.progress import Progress

RESULTS = ROOT / ".conformance"
WORKERS = 2
"""Number of concurrent runs: the suite, the backend and the proxy leave a core half idle."""

TASKS = "tasks, two instances"
"""The row of the tasks extension."""

Outcome = dict[str, tuple[Checks, list[str]]]
"""Revision → the checks, and the scenarios that passed only when repeated."""
Cell = tuple[str, str, str]
"""Revision of the client, form of the backend, set-up."""


@dataclass
class Verdict:
    """Numbers of checks that pass, and the faults."""

    kept: dict[Cell, str] = field(default_factory=dict)
    client: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def judge(self, cell: Cell, direct: Checks, proxied: Checks, excepted: Exceptions) -> None:
        """Compare one run with the direct one."""
        revision, form, set_up = cell
        missing, accepted = lost(direct, proxied), excepted.of(revision, form)
        total = len(passing(direct))
        self.kept[cell] = f"{total - len(missing)}/{total}"
        where = f"{revision}, {form}, {set_up}"
        for check, status in missing.items():
            if check not in accepted:
                self.faults.append(f"{where}: lost: {' '.join(check)} ({status})")
        for check in sorted(accepted - missing.keys()):
            self.faults.append(f"{where}: an exception no longer: {' '.join(check)}")

    def table(self) -> str:
        """Return the results of all pairs, as a Markdown table."""
        set_ups = [set_up for set_up in SET_UPS if any(cell[2] == set_up for cell in self.kept)]
        rows = [["Client", "Backend", *set_ups], ["---"] * (len(set_ups) + 2)]
        for revision, form in dict.fromkeys(cell[:2] for cell in sorted(self.kept)):
            cells = [self.kept.get((revision, form, set_up), "") for set_up in set_ups]
            rows.append([revision, form, *cells])
        rows += [[revision, "client leg", mark] for revision, mark in self.client.items()]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def judge_pair(pair: Pair, excepted: Exceptions) -> Outcome:
    """Run both revisions through a proxy. Raise NotServing."""
    place = f"{pair.form} {pair.set_up}".replace(",", "").replace(" ", "-")
    results, outcome = RESULTS / place, Outcome()
    with pair.serve(results) as url:
        for revision in REVISIONS:
            if pair.form == "stdio" and revision == REVISIONS[-1]:
                warm_up(url, results)
            hopeless = excepted.scenarios(revision, pair.form)
            outcome[revision] = judge_server(url, revision, results, hopeless)
    return outcome


def judge_directly() -> Outcome:
    """Run both revisions against the suite's backend itself. Raise NotServing."""
    results = RESULTS / "direct"
    results.mkdir(parents=True, exist_ok=True)
    with backend("dual", results) as url:
        return {revision: judge_server(url, revision, results) for revision in REVISIONS}


def judge_extension(verdict: Verdict, set_ups: Sequence[str], excepted: Exceptions) -> None:
    """Run the scenarios of the tasks extension, directly and through two instances.

    Raise NotServing.
    """
    results = RESULTS / TASKS
    results.mkdir(parents=True, exist_ok=True)
    with tasks_backend(results) as url:
        direct = judge_tasks(url, results / "direct")
        if not passing(direct):
            verdict.faults.append(f"{TASKS}: no check passes directly")
        for set_up in set_ups:
            place = results / set_up.replace(" ", "-")
            with before_tasks(set_up, url, place) as proxied:
                checks = judge_tasks(proxied, place)
            verdict.judge((REVISIONS[-1], TASKS, set_up), direct, checks, excepted)


def judge_clients(verdict: Verdict, pool: ThreadPoolExecutor) -> None:
    """Run all scenarios that test the proxy as a client."""
    for revision, scenarios in CLIENT_SCENARIOS.items():
        calls = [
            pool.submit(judge_client, revision, scenario, RESULTS / "client")
            for scenario in scenarios
        ]
        failed = [
            scenario for scenario, call in zip(scenarios, calls, strict=True) if not call.result()
        ]
        verdict.client[revision] = f"{len(scenarios) - len(failed)}/{len(scenarios)}"
        verdict.faults += [f"{revision}, client leg: {scenario} fails" for scenario in failed]


def judge_authorization(verdict: Verdict, pool: ThreadPoolExecutor) -> None:
    """Run the authorization scenarios, of which the proxy passes those without a user."""
    place = RESULTS / "authorization"
    runs = [
        pool.submit(conformance_authorization.judge, revision, scenario, place)
        for revision, scenario in conformance_authorization.EXPECTED
    ]
    verdict.faults += [fault for fault in (call.result() for call in runs) if fault is not None]


def run(pairs: Sequence[Pair], excepted: Exceptions, client: bool, progress: Progress) -> Verdict:
    """Run everything. Raise NotServing."""
    verdict = Verdict()
    progress.step("the suite directly against its backend")
    direct = judge_directly()
    for revision, (checks, _) in direct.items():
        progress.step(f"{revision}, directly: {len(passing(checks))}/{len(checks)}")
        if not passing(checks):
            verdict.faults.append(f"{revision}: no check passes directly")
    if any(pair.form == TWICE for pair in pairs):
        progress.step(f"two instances stand behind {round_robin.program()}")
    with ThreadPoolExecutor(WORKERS) as pool:
        # stdio servers take longest, so they start first and the others run next to them.
        order = list(reversed(pairs))
        runs = [pool.submit(judge_pair, pair, excepted) for pair in order]
        for pair, judged in zip(order, runs, strict=True):
            for revision, (checks, repeated) in judged.result().items():
                cell = (revision, pair.form, pair.set_up)
                verdict.judge(cell, direct[revision][0], checks, excepted)
                again = f" (at the second try: {', '.join(repeated)})" if repeated else ""
                progress.step(f"{', '.join(cell)}: {verdict.kept[cell]}{again}")
        progress.step("the scenarios of the extension for tasks")
        set_ups = [set_up for set_up in SET_UPS if any(pair.set_up == set_up for pair in pairs)]
        judge_extension(verdict, set_ups, excepted)
        if client:
            progress.step("the client leg: the suite as a server behind the proxy")
            judge_clients(verdict, pool)
            progress.step("the authorization scenarios: the proxy as the client of a server")
            judge_authorization(verdict, pool)
    return verdict


def missing() -> str | None:
    """Return the missing requirement of the suite on this machine, or None."""
    if not BACKEND.exists():
        return f"the suite's backend, expected at ../{BACKEND.relative_to(ROOT.parent)}"
    return None if npm.available() else "npm, which installs the suite"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison. Return 0 if no check is lost or if the suite cannot run, otherwise 1."""
    parser = argparse.ArgumentParser(prog="conformance")
    parser.add_argument("--form", action="append", choices=FORMS)
    parser.add_argument("--set-up", action="append", choices=SET_UPS)
    parser.add_argument("--no-client", action="store_true")
    args = parser.parse_args(arguments)
    lacking = missing()
    if lacking:
        print(f"conformance: not run, this machine lacks {lacking}")
        return 0
    progress = Progress()
    pairs = [Pair(form, set_up) for form in args.form or FORMS for set_up in args.set_up or SET_UPS]
    try:
        progress.step("installing the suite")
        npm.install()
        verdict = run(pairs, read(DOCUMENT), not args.no_client, progress)
    except (NotServing, TableError, subprocess.SubprocessError) as error:
        print(f"conformance: {error}")
        return 1
    progress.show(verdict.table())
    for fault in verdict.faults:
        print(fault)
    progress.step(f"{len(verdict.faults)} faults; details in {RESULTS.relative_to(ROOT)}/")
    return 1 if verdict.faults else 0


if __name__ == "__main__":
    sys.exit(main())
