"""Nothing happens, and so nothing is written."""

import pytest

from e2e.audit import AuditLog, Write
from e2e.world import OPERATOR, PROXIES, SERVICE_ACCOUNT, SYSTEM, World, steadily

IDLE_SECONDS = 60
SETTLING_SECONDS = 8
CHILDREN = ("deployments", "services", "configmaps", "secrets", "serviceaccounts")
KUBECTL = "kubectl.kubernetes.io/last-applied-configuration"


@pytest.fixture
def settled(demo: World) -> World:
    """The demo, Ready and with nothing left to do."""
    demo.wait_ready("demo")
    return demo


def test_a_restarted_operator_writes_nothing(settled: World, audit: AuditLog) -> None:
    position = audit.position()
    settled.cluster.kubectl("-n", SYSTEM, "rollout", "restart", OPERATOR)
    settled.cluster.kubectl("-n", SYSTEM, "rollout", "status", OPERATOR, "--timeout=120s")
    steadily("mcpproxy/demo is Ready", lambda: settled.is_current("demo"), SETTLING_SECONDS)
    written = audit.writes(position, lambda write: write.user == SERVICE_ACCOUNT)
    assert [str(write) for write in written] == []


def test_an_idle_minute_sees_no_write_by_anyone(settled: World, audit: AuditLog) -> None:
    def counts(write: Write) -> bool:
        ours = write.user == SERVICE_ACCOUNT or write.resource.startswith("mcpproxies")
        child = write.resource.partition("/")[0] in CHILDREN
        return ours or (child and write.namespace == settled.namespace)

    versions = _versions(settled)
    position = audit.position()
    steadily("mcpproxy/demo is Ready", lambda: settled.is_current("demo"), IDLE_SECONDS)
    assert [str(write) for write in audit.writes(position, counts)] == []
    assert _versions(settled) == versions


def test_the_object_of_the_user_has_no_marks_of_the_operator(settled: World) -> None:
    metadata = settled.get(PROXIES, "demo")["metadata"]
    assert set(metadata.get("annotations", {})) <= {KUBECTL}
    assert "finalizers" not in metadata
    assert metadata.get("labels", {}) == {}


def _versions(world: World) -> dict[str, str]:
    proxy = world.get(PROXIES, "demo")
    results = [proxy, *world.owned(proxy["metadata"]["uid"])]
    return {f"{item['kind']}/{item['metadata']['name']}": _version(item) for item in results}


def _version(manifest: dict[str, dict[str, str]]) -> str:
    return manifest["metadata"]["resourceVersion"]
