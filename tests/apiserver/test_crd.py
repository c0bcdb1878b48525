"""The CRD on a real API server: structural, within the cost of CEL, and readable."""

import json

import pytest

from mcpproxy.api import constants
from tests.apiserver.server import ApiServer
from tests.support.builders import a_manifest
from tests.support.kstatus import kstatus

pytestmark = pytest.mark.apiserver

STATUS = {
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Serving",
            "message": "3 of 3 backends are healthy",
            "lastTransitionTime": "2026-01-02T03:04:05Z",
            "observedGeneration": 1,
        }
    ],
    "summary": "Serving",
    "pods": "2/2",
    "url": "http://tools.team.svc/mcp",
    "replicas": 2,
    "selector": "app.kubernetes.io/instance=tools",
    "sessionMode": "Isolated",
    "backendsHealthy": "3/3",
    "components": {"tools": 27, "prompts": 0, "resources": 11},
}


def run(apiserver: ApiServer, *args: str, input: str | None = None) -> str:  # noqa: A002
    """Return the output of kubectl; it must succeed."""
    answer = apiserver.kubectl(*args, input=input)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.fixture
def tools(apiserver: ApiServer, namespace: str) -> str:
    """The namespace of an MCPProxy `tools` with a status."""
    run(apiserver, "apply", "-f", "-", input=json.dumps(a_manifest(namespace=namespace)))
    patch = json.dumps({"status": STATUS})
    where = ("-n", namespace, "--subresource=status", "--type=merge", "-p", patch)
    run(apiserver, "patch", constants.CRD_NAME, "tools", *where)
    return namespace


def test_the_crd_is_structural_and_its_names_are_accepted(apiserver: ApiServer) -> None:
    document = json.loads(run(apiserver, "get", "crd", constants.CRD_NAME, "-o", "json"))
    conditions = {
        condition["type"]: condition["status"] for condition in document["status"]["conditions"]
    }
    assert conditions.get("NonStructuralSchema", "False") == "False"
    assert conditions["NamesAccepted"] == "True"
    assert conditions["Established"] == "True"


@pytest.mark.parametrize("word", ["mcpproxies", "mcpproxy", "mcpp", "mcp", constants.CRD_NAME])
def test_the_table_shows_the_columns_of_the_design(
    apiserver: ApiServer, tools: str, word: str
) -> None:
    header, row = run(apiserver, "get", word, "-n", tools).splitlines()
    assert header.split() == [*("NAME", "READY", "STATUS", "BACKENDS", "TOOLS", "PODS", "AGE")]
    assert row.split()[1:6] == ["True", "Serving", "3/3", "27", "2/2"]


def test_the_wide_table_shows_the_url_and_the_cause(apiserver: ApiServer, tools: str) -> None:
    header, row = run(apiserver, "get", "mcpp", "-n", tools, "-o", "wide").splitlines()
    wide = ["URL", "PROMPTS", "RESOURCES", "SESSION", "REASON", "MESSAGE"]
    assert header.split()[-6:] == wide
    assert row.endswith("3 of 3 backends are healthy")
    shown = ["http://tools.team.svc/mcp", "0", "11", "Isolated", "Serving"]
    assert row.split()[7:12] == shown


def test_the_status_is_not_written_with_the_spec(apiserver: ApiServer, namespace: str) -> None:
    value = {**a_manifest(namespace=namespace), "status": STATUS}
    live = json.loads(run(apiserver, "apply", "-o", "json", "-f", "-", input=json.dumps(value)))
    assert live["status"] == {"observedGeneration": -1}


def test_kubectl_scale_sets_the_replicas(apiserver: ApiServer, tools: str) -> None:
    run(apiserver, "scale", "mcpp/tools", "-n", tools, "--replicas=4")
    path = f"/apis/{constants.API_VERSION}/namespaces/{tools}/mcpproxies/tools/scale"
    scale = json.loads(run(apiserver, "get", "--raw", path))
    assert scale["spec"] == {"replicas": 4}
    assert scale["status"] == {"replicas": 2, "selector": STATUS["selector"]}


def test_kubectl_explain_shows_the_meaning_and_default_of_a_field(apiserver: ApiServer) -> None:
    result = run(apiserver, "explain", "mcpproxies.spec.backends.timeouts.connect")
    assert "Timeout for opening a connection or starting a process. Default: 5s." in result
    assert "Isolated uses a new session for each request." in run(
        apiserver, "explain", "mcpproxies.spec.session.mode"
    )


def test_two_managers_can_each_apply_a_different_backend(
    apiserver: ApiServer, namespace: str
) -> None:
    for name in ("weather", "calendar"):
        manifest = a_manifest(
            namespace=namespace, backends=[{"name": name, "url": f"http://{name}/mcp"}]
        )
        managed = ("apply", "--server-side", f"--field-manager={name}", "-f", "-")
        run(apiserver, *managed, input=json.dumps(manifest))
    live = json.loads(run(apiserver, "get", "mcpp", "tools", "-n", namespace, "-o", "json"))
    assert {backend["name"] for backend in live["spec"]["backends"]} == {"weather", "calendar"}


def test_an_object_that_the_operator_has_not_seen_is_in_progress_for_generic_tools(
    apiserver: ApiServer, namespace: str
) -> None:
    manifest = json.dumps(a_manifest("unseen", namespace))
    created = apiserver.kubectl("create", "-o", "json", "-f", "-", input=manifest)
    assert kstatus(json.loads(created.stdout)) == "InProgress"
