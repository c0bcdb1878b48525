"""Each mutant of the proxy's verifier is noticed, by the kit or by a test.

A sample of the mutants runs without STRESS, and all of them with STRESS=1.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mcpproxy
from scripts.conformance_servers import sample
from tests.conformance.trusting_proxy import SAMPLE, trusting_proxy
from tests.conformance.verifier_mutants import MUTANTS, Mutant
from tests.resource_server.check import CHECKS, Failed, Outcome, run_check
from tests.resource_server.scenarios import PRIMED
from tests.resource_server.target import Target

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PACKAGE = Path(mcpproxy.__file__).parent
ROOT = Path(__file__).parents[2]
EVERY = int(os.environ.get("STRESS", "0")) or 8
"""One of so many mutants is tried."""
NAMES = list(MUTANTS)[::EVERY]
GOOD_TOKEN = "bearer-good-token"
FEW_SECONDS = 5.0
TESTS_FAILED = 1
"""Exit code of pytest if tests ran and some failed."""


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with sample(SAMPLE, tmp_path_factory.mktemp("backend")) as url:
        yield url


@pytest.mark.parametrize("name", [name for name in NAMES if MUTANTS[name].checks])
def test_a_mutant_fails_the_checks_of_its_rule(
    name: str, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant = MUTANTS[name]
    monkeypatch.setenv("PYTHONPATH", os.fspath(_copy(mutant, tmp_path)))
    if GOOD_TOKEN in mutant.checks:
        with (
            pytest.raises(Failed, match="a good token is not served"),
            trusting_proxy(backend, tmp_path, FEW_SECONDS),
        ):
            pass
        return
    with trusting_proxy(backend, tmp_path) as target:
        _prime(target)
        outcomes = {name: run_check(CHECKS[name], target).outcome for name in mutant.checks}
    assert outcomes == dict.fromkeys(mutant.checks, Outcome.FAIL.value)


@pytest.mark.parametrize("name", [name for name in NAMES if MUTANTS[name].test])
def test_a_mutant_of_which_the_kit_knows_nothing_fails_its_test(name: str, tmp_path: Path) -> None:
    mutant = MUTANTS[name]
    path = os.fspath(_copy(mutant, tmp_path))
    # The paths of pyproject.toml would lead to the package without the mutant.
    options = ["-q", "-x", "-p", "no:cacheprovider", "-o", f"pythonpath={shlex.quote(path)} ."]
    command = [sys.executable, "-m", "pytest", *options, mutant.test]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == TESTS_FAILED, done.stdout[-2000:]


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_replaces_a_text_that_is_there_once(name: str) -> None:
    mutant = MUTANTS[name]
    assert (PACKAGE / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1
    assert mutant.new != mutant.old
    assert bool(mutant.checks) != bool(mutant.test)
    assert {*mutant.checks} <= CHECKS.keys()


def _copy(mutant: Mutant, directory: Path) -> Path:
    """Copy the package with the mutant; return the directory for PYTHONPATH."""
    target = directory / "mutant"
    shutil.copytree(PACKAGE, target / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    file = target / PACKAGE.name / mutant.file
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    return target


def _prime(target: Target) -> None:
    """Let the proxy read the keys of the issuers that checks take away."""
    for name in PRIMED:
        target.send(token=target.issuer(name).token())
