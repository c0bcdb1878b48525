"""For every field of the contract a test shows that changing it changes what runs."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.fields.proofs import AS_THEY_ARE, PROOFS
from tests.fields.schema import is_the_runtimes, leaves
from tests.stress.size import FULL

pytestmark = pytest.mark.timeout(240)
ROOT: Final = Path(__file__).parents[2]
REAL_RUNTIME: Final = "tests/proxy/runtime/"
REAL_OPERATOR: Final = "tests/apiserver/"
OF_THE_RUNTIME: Final = sorted(path for path in PROOFS if is_the_runtimes(path))
FAILED: Final = 1
"""pytest's exit code."""


def pytest_run(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A run of pytest of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_field_has_a_proof() -> None:
    below = {path for path in leaves() if path.startswith(tuple(f"{top}" for top in AS_THEY_ARE))}
    assert leaves() - below == set(PROOFS)
    assert not any(is_the_runtimes(path) for path in below)


@pytest.mark.slow
def test_every_proof_is_a_test_of_this_repository() -> None:
    named = {*PROOFS.values(), *AS_THEY_ARE.values()}
    files = sorted({name.partition("::")[0] for name in named})
    collected = pytest_run("--collect-only", *files)
    assert collected.returncode == 0, collected.stdout
    result = {line for line in collected.stdout.splitlines() if "::" in line}
    result |= {line.partition("[")[0] for line in result}
    assert named - result == set()


def test_a_proof_has_a_real_runtime_or_a_real_operator_at_work() -> None:
    for path, name in {**PROOFS, **AS_THEY_ARE}.items():
        real = REAL_RUNTIME if is_the_runtimes(path) else REAL_OPERATOR
        assert name.startswith(real), path


@pytest.mark.slow
@pytest.mark.parametrize("path", OF_THE_RUNTIME if FULL else OF_THE_RUNTIME[:: len(PROOFS) // 3])
def test_a_proof_fails_if_the_runtime_ignores_its_field(path: str) -> None:
    run = pytest_run(
        *("-x", "-p", "tests.fields.ignoring", "--timeout=20", "-m", "", PROOFS[path]),
        IGNORED_FIELD=path,
    )
    assert run.returncode == FAILED, f"{PROOFS[path]} holds without {path}: {run.stdout}"
    # Not for the manifest being wrong, which would say nothing of the runtime.
    assert "ManifestError" not in run.stdout
