"""`mcpproxy run` as an OAuth resource server: the kit in tests/resource_server finds no fault."""

from pathlib import Path

import pytest

from scripts.conformance_servers import sample
from tests.conformance.trusting_proxy import SAMPLE, trusting_proxy
from tests.resource_server.check import CHECKS, Outcome
from tests.resource_server.run import run

pytestmark = pytest.mark.slow


@pytest.mark.timeout(400)
def test_the_proxy_passes_the_checks_of_a_resource_server(tmp_path: Path) -> None:
    with sample(SAMPLE, tmp_path) as backend, trusting_proxy(backend, tmp_path) as target:
        results = run(target, CHECKS.values())
    failed = {r.id: r.reason for r in results if r.outcome == Outcome.FAIL.value}
    assert not failed
    assert [r.id for r in results if r.outcome == Outcome.SKIP.value] == []
