"""Permissions of the operator's ServiceAccount."""

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


ROUTES = (
    ("httproutes", "gateways", "gateway.networking.k8s.io"),
    ("ingresses", "ingressclasses", "networking.k8s.io"),
)


@pytest.mark.parametrize(("routes", "others", "group"), ROUTES)
def test_the_operator_may_write_routes_and_nothing_else_of_gateways(
    demo: World, routes: str, others: str, group: str
) -> None:
    for verb in ("get", "list", "watch", "create", "patch", "delete"):
        assert demo.may_everywhere(SERVICE_ACCOUNT, verb, routes, group)
    assert not demo.may_everywhere(SERVICE_ACCOUNT, "patch", routes, group, "status")
    assert not demo.may_everywhere(SERVICE_ACCOUNT, "get", others, group)


@pytest.mark.parametrize(
    ("verb", "resource"),
    [("create", "secrets"), ("patch", "deployments"), ("list", "pods"), ("watch", PROXIES)],
)
def test_the_roles_grant_the_required_permissions(demo: World, verb: str, resource: str) -> None:
    assert demo.may(SERVICE_ACCOUNT, verb, resource, EVERYWHERE)
