"""Permissions of an installation by the API server itself: those that the code needs, no more."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import httpx2
import pytest
import yaml

from mcpproxy.api import constants
from mcpproxy.cluster.resources import (
    CONFIG_MAP,
    EVENT,
    LEASE,
    MCP_PROXY,
    ON_DEMAND,
    POD,
    REPLICA_SET,
    SECRET,
    ResourceKind,
)
from mcpproxy.controller.kopf_watches import CHILDREN, SELECTORS
from mcpproxy.desired import CHILD_KINDS
from scripts.manifests import INSTALLS, MANIFESTS, NAMESPACE
from scripts.yaml_files import parse_documents
from tests.apiserver.server import ApiServer

pytestmark = pytest.mark.apiserver

Right = tuple[str, str, str]
"""Group, resource (with its subresource) and verb."""

ELSEWHERE: Final = "default"
VERBS: Final = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
READ: Final = ("get", "list", "watch")
ATTEMPTS: Final = 2000


def rights(kinds: Iterable[ResourceKind], *verbs: str) -> set[Right]:
    """These verbs on these kinds."""
    return {(kind.group, kind.plural, verb) for kind in kinds for verb in verbs}


SERVED: Final = (
    rights(SELECTORS, "list", "watch")
    | rights([kind for kind in SELECTORS if kind != POD], "get")
    | rights((REPLICA_SET,), "list")
    | rights(CHILDREN, "create", "patch")
    | rights((CONFIG_MAP, *ON_DEMAND), "delete")
    | rights((SECRET, EVENT), "create")
    | rights((EVENT,), "patch")
    | {(constants.GROUP, f"{constants.PLURAL}/status", "patch")}
    | {(constants.GROUP, f"{constants.PLURAL}/finalizers", "update")}
)
"""In a namespace that is served: what is watched is read, what is built is applied, what can be
asked for no longer is deleted. Owner references may need the finalizers' right."""
AT_HOME: Final = rights([LEASE], "create")
"""In the operator's own namespace, whatever the object's name."""
BY_NAME: Final = rights([LEASE], "get", "update")
"""There, on the one Lease."""


class Reviewer:
    """Asks the API server what a service account may do."""

    def __init__(self, client: httpx2.Client, account: str) -> None:
        self._client = client
        self._user = f"system:serviceaccount:{NAMESPACE}:{account}"

    def may(self, right: Right, namespace: str, name: str = "") -> bool:
        """Return True if the account has a right; in all namespaces, if the namespace is empty."""
        group, path, verb = right
        resource, _, subresource = path.partition("/")
        attributes = {
            "group": group,
            "resource": resource,
            "subresource": subresource,
            "verb": verb,
            "namespace": namespace,
            "name": name,
        }
        everyone = ("system:serviceaccounts", f"system:serviceaccounts:{NAMESPACE}")
        spec = {
            "user": self._user,
            "groups": [*everyone, "system:authenticated"],
            "resourceAttributes": attributes,
        }
        answer = self._client.post(
            "/apis/authorization.k8s.io/v1/subjectaccessreviews", json={"spec": spec}
        )
        assert answer.status_code == 201, answer.text
        return bool(answer.json()["status"]["allowed"])

    def all(self, namespace: str, every: Iterable[Right]) -> set[Right]:
        """Return the rights in `every` that the account has."""
        return {right for right in every if self.may(right, namespace)}


@pytest.fixture(scope="module")
def client(apiserver: ApiServer) -> Iterator[httpx2.Client]:
    """Asks as kubectl does, and faster."""
    with apiserver.client() as result:
        yield result


@pytest.fixture(scope="module")
def every(client: httpx2.Client) -> list[Right]:
    """All verbs on all resources that the API server has, and on those that it does not show."""
    groups = client.get("/apis").json()["groups"]
    versions = [entry["groupVersion"] for group in groups for entry in group["versions"]]
    result = {
        (constants.GROUP, f"{constants.PLURAL}/finalizers"),
        ("", "pods/proxy"),
        ("", "pods/exec"),
    }
    for path in ("/api/v1", *(f"/apis/{version}" for version in versions)):
        group = path.removeprefix("/apis/").partition("/")[0] if path != "/api/v1" else ""
        for item in client.get(path).json()["resources"]:
            result.add((group, item["name"]))
    return [(*resource, verb) for resource in sorted(result) for verb in VERBS]


@pytest.fixture(params=INSTALLS)
def overlay(request: pytest.FixtureRequest, apiserver: ApiServer, tmp_path: Path) -> Iterator[str]:
    """An installation's accounts and rights, at the API server while a test runs."""
    text = (MANIFESTS / INSTALLS[request.param]).read_text(encoding="utf-8")
    left_out = ("Deployment", "CustomResourceDefinition", "Namespace")
    objects = [document for document in parse_documents(text) if document["kind"] not in left_out]
    path = tmp_path / "rights.yaml"
    path.write_text(yaml.safe_dump_all(objects))
    apiserver.kubectl("create", "namespace", NAMESPACE)
    applied = apiserver.kubectl("apply", "--server-side", "-f", str(path))
    assert applied.returncode == 0, applied.stderr
    yield request.param
    gone = apiserver.kubectl("delete", "-f", str(path))
    assert gone.returncode == 0, gone.stderr


@pytest.fixture
def operator(client: httpx2.Client, overlay: str) -> Reviewer:
    """The operator's account, as soon as the API server knows of its rights."""
    reviewer = Reviewer(client, constants.OPERATOR)
    wide = overlay == "cluster"
    for _ in range(ATTEMPTS):
        known = reviewer.may((MCP_PROXY.group, MCP_PROXY.plural, "list"), "" if wide else NAMESPACE)
        # Those of the other installation are gone.
        alone = wide or not reviewer.may((MCP_PROXY.group, MCP_PROXY.plural, "list"), ELSEWHERE)
        if known and alone and reviewer.may((LEASE.group, LEASE.plural, "create"), NAMESPACE):
            return reviewer
    raise AssertionError("the rights never came")


def test_every_kind_that_the_operator_creates_is_watched() -> None:
    built = {(item.api_version, item.plural) for item in CHILD_KINDS}
    assert built == {(kind.api_version, kind.plural) for kind in CHILDREN}


def test_the_roles_grant_exactly_the_permissions_used_by_the_code(
    operator: Reviewer, overlay: str, client: httpx2.Client, every: list[Right]
) -> None:
    anyone = Reviewer(client, "anyone").all(NAMESPACE, every)
    assert operator.all(NAMESPACE, every) - anyone == SERVED | AT_HOME
    elsewhere = operator.all(ELSEWHERE, every) - anyone
    assert elsewhere == (SERVED if overlay == "cluster" else set())
    assert {
        right for right in BY_NAME if operator.may(right, NAMESPACE, constants.FIELD_MANAGER)
    } == (BY_NAME)
    assert not any(operator.may(right, NAMESPACE, "another") for right in BY_NAME)


def test_no_secret_can_be_read_anywhere(operator: Reviewer) -> None:
    for verb in (*READ, "update", "patch", "delete", "deletecollection"):
        for namespace in ("", NAMESPACE, ELSEWHERE, "kube-system"):
            assert not operator.may(("", "secrets", verb), namespace)
            assert not operator.may(("", "secrets", verb), namespace, "tools-sealing")
    assert operator.may(("", "secrets", "create"), NAMESPACE)
