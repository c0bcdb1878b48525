"""Tokens of ServiceAccounts: the keys that a real API server publishes verify those it signs."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.proxy.authentication.client_authentication import ClientAuthentication
from mcpproxy.proxy.authentication.verification_keys import KeyListener
from mcpproxy.proxy.http1.errors import HttpError
from mcpproxy.proxy.upstream.mounted.values import MountedValues
from tests.apiserver.operator_process import OperatorProcess, operating
from tests.apiserver.server import ApiServer
from tests.apiserver.stage import Stage
from tests.proxy.authentication.stage import head
from tests.support.builders import an_mcpproxy

pytestmark = pytest.mark.apiserver
AUDIENCE = "tools.mcpproxy.dev"
ACCEPTED = {"serviceAccounts": {"audience": AUDIENCE}}
KEYS = "configmap/tools-service-account-keys"


@pytest.fixture(scope="module")
def operator(
    apiserver: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """One operator for all tests of this module."""
    log = tmp_path_factory.mktemp("operator") / "log"
    with operating(apiserver.kubeconfig, log=log) as result:
        yield result
        assert '"level": "error"' not in log.read_text()


def _authentication(stage: Stage, directory: Path) -> ClientAuthentication:
    """Return the keys with which a pod verifies, once the kubelet has mounted the ConfigMap."""
    mounted = directory / KEYS.replace("configmap/", "configmap/", 1)
    mounted.mkdir(parents=True)
    for key, text in stage.get(KEYS)["data"].items():
        (mounted / key).write_text(text)
    proxy: MCPProxy = an_mcpproxy(authentication=ACCEPTED)
    listener = KeyListener(lambda: None, lambda *of: None)
    values = MountedValues(directory, lambda: 0.0)
    result = ClientAuthentication(proxy, "/mcp", values, {}, listener)
    result._reread()
    return result


def test_a_token_of_a_service_account_is_verified_with_the_keys_of_the_config_map(
    apiserver: ApiServer, namespace: str, operator: OperatorProcess, tmp_path: Path
) -> None:
    stage = Stage(apiserver, namespace)
    stage.kubectl("create", "serviceaccount", "bot")
    stage.apply(authentication=ACCEPTED)
    stage.wait(KEYS, "create")
    authenticator = _authentication(stage, tmp_path).authenticator

    def token(audience: str) -> str:
        return stage.kubectl("create", "token", "bot", f"--audience={audience}").strip()

    identity = authenticator.admit(head(f"Bearer {token(AUDIENCE)}"), "net").identity
    assert (identity.method, identity.service_account) == ("serviceAccount", (namespace, "bot"))
    assert identity.expires is not None
    with pytest.raises(HttpError):
        authenticator.admit(head(f"Bearer {token('other')}"), "net")


def test_the_pods_mount_the_keys_and_the_config_map_goes_with_the_field(
    apiserver: ApiServer, namespace: str, operator: OperatorProcess
) -> None:
    stage = Stage(apiserver, namespace)
    stage.apply(authentication=ACCEPTED)
    stage.wait(KEYS, "create")
    stage.wait("deployment/tools", "create")
    data = stage.get(KEYS)["data"]
    assert json.loads(data["jwks"])["keys"]
    assert data["issuer"].startswith("https://")
    (values,) = (
        volume["projected"]["sources"]
        for volume in stage.get("deployment/tools")["spec"]["template"]["spec"]["volumes"]
        if volume["name"] == "values"
    )
    names = [source["configMap"]["name"] for source in values]
    assert names == [KEYS.removeprefix("configmap/")]
    # A key set that somebody has changed is put right.
    stage.kubectl("patch", KEYS, "--type=merge", "-p", '{"data":{"jwks":"{}"}}')
    operator.until(lambda: stage.get(KEYS)["data"] == data, "the keys to be put right")
