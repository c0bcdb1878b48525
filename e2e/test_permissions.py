"""What the operator's ServiceAccount may do, and what not."""

import pytest

from e2e.world import PROXIES, SERVICE_ACCOUNT, World

EVERYWHERE = "--all-namespaces"


@pytest.mark.parametrize("verb", ["get", "list", "watch", "update", "patch", "delete"])
def test_the_operator_cannot_read_or_change_secrets(demo: World, verb: str) -> None:
    assert not demo.may(SERVICE_ACCOUNT, verb, "secrets")
    assert not demo.may(SERVICE_ACCOUNT, verb, "secrets", EVERYWHERE)


@pytest.mark.parametrize("verb", ["update", "patch", "create", "delete"])
def test_the_operator_cannot_write_the_users_objects(demo: World, verb: str) -> None:
    assert not demo.may(SERVICE_ACCOUNT, verb, PROXIES)


@pytest.mark.parametrize(
    ("verb", "resource"),
    [("create", "secrets"), ("patch", "deployments"), ("list", "pods"), ("watch", PROXIES)],
)
def test_the_roles_grant_the_required_permissions(demo: World, verb: str, resource: str) -> None:
    assert demo.may(SERVICE_ACCOUNT, verb, resource, EVERYWHERE)
