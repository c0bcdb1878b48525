"""Fixtures for tests against a real API server, with the CRD installed."""

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcpproxy.api import constants
from mcpproxy.api.crd import definition as crd
from scripts import gateway
from tests.apiserver import pod_monitor_crd
from tests.apiserver.server import ApiServer, running

_ASSETS = "KUBEBUILDER_ASSETS"
_PROGRAMS = ("etcd", "kube-apiserver", "kubectl")


def _assets() -> Path:
    value = os.environ.get(_ASSETS)
    if not value:
        pytest.skip(f"{_ASSETS} is not set: a directory with {', '.join(_PROGRAMS)}")
    missing = [name for name in _PROGRAMS if not (Path(value) / name).exists()]
    if missing:
        pytest.fail(f"{_ASSETS} is {value}, which lacks {', '.join(missing)}")
    return Path(value)


@pytest.fixture(scope="session")
def assets() -> Path:
    """The directory with the programs of Kubernetes."""
    return _assets()


@pytest.fixture(scope="session")
def bare_apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server without the CRD."""
    assets = _assets()
    with running(assets, tmp_path_factory.mktemp("apiserver")) as server:
        yield server


@pytest.fixture(scope="session")
def apiserver(bare_apiserver: ApiServer) -> ApiServer:
    """An API server that knows MCPProxies, PodMonitors, and the Gateway API if Go can fetch it."""
    for definition in (crd.render(), json.dumps(pod_monitor_crd.CRD)):
        applied = bare_apiserver.kubectl("apply", "--server-side", "-f", "-", input=definition)
        assert applied.returncode == 0, applied.stderr
    definitions = (f"crd/{constants.CRD_NAME}", f"crd/{pod_monitor_crd.CRD['metadata']['name']}")
    established = bare_apiserver.kubectl(
        "wait", "--for=condition=Established", *definitions, "--timeout=20s"
    )
    assert established.returncode == 0, established.stderr
    # An established kind answers with 429 until its storage is ready: kubectl tries again.
    for plural in (constants.PLURAL, "podmonitors"):
        listed = bare_apiserver.kubectl("get", plural, "--all-namespaces")
        assert listed.returncode == 0, listed.stderr
    if gateway.has_go():
        install_gateway_api(bare_apiserver)
    return bare_apiserver


@pytest.fixture(scope="session")
def gateway_api(apiserver: ApiServer) -> None:
    """The kinds of the Gateway API, from its Go module; skips the test without Go."""
    if not gateway.has_go():
        absent = "go is not installed, which downloads the Gateway API"
        if os.environ.get("CI"):
            pytest.fail(absent)
        pytest.skip(absent)


def install_gateway_api(apiserver: ApiServer) -> None:
    """Install the kinds HTTPRoute and Gateway, and wait until they can be listed."""
    for plural in ("gateways", "httproutes"):
        path = gateway.crds() / f"gateway.networking.k8s.io_{plural}.yaml"
        applied = apiserver.kubectl("apply", "--server-side", "-f", str(path))
        assert applied.returncode == 0, applied.stderr
        name = f"crd/{plural}.gateway.networking.k8s.io"
        waited = apiserver.kubectl("wait", "--for=condition=Established", name, "--timeout=20s")
        assert waited.returncode == 0, waited.stderr
        listed = apiserver.kubectl("get", plural, "--all-namespaces")
        assert listed.returncode == 0, listed.stderr


@pytest.fixture
def namespace(apiserver: ApiServer) -> str:
    """A fresh namespace; nothing deletes it, since the server goes with the test run."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    with apiserver.client() as client:
        created = client.post("/api/v1/namespaces", json={"metadata": {"name": name}})
    assert created.status_code == 201, created.text
    return name
