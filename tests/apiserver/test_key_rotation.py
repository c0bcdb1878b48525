"""The API server stops publishing a key of ServiceAccount tokens: pods refuse its tokens."""

import json
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from mcpproxy.api import constants
from mcpproxy.api.crd import definition as crd
from mcpproxy.cluster.token_keys import FRESH, KEY_SET
from mcpproxy.proxy.authentication.client_authentication import REREAD, ClientAuthentication
from mcpproxy.proxy.authentication.verification_keys import KeyListener
from mcpproxy.proxy.http1.errors import HttpError
from mcpproxy.proxy.upstream.mounted.values import MountedValues
from mcpproxy.reconcile.requeue import POLL
from tests.apiserver.operator_process import operating
from tests.apiserver.server import Settings, running
from tests.apiserver.stage import Stage
from tests.proxy.authentication.stage import head
from tests.support.builders import an_mcpproxy

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(300)]
AUDIENCE = "tools.mcpproxy.dev"
ACCEPTED = {"serviceAccounts": {"audience": AUDIENCE}}
KEYS = "tools-service-account-keys"
OUTAGE = 30.0
"""Seconds that the operator may need to reach an API server that has started again."""


class Kubelet:
    """A pod's view of the ConfigMap, whose files are replaced at once."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._clock, self._generation = directory, 0.0, 0
        mounted = MountedValues(directory, lambda: self._clock)
        listener = KeyListener(lambda: None, lambda *of: None)
        proxy = an_mcpproxy(authentication=ACCEPTED)
        self._pod = ClientAuthentication(proxy, "/mcp", mounted, {}, listener)

    def mount(self, data: dict[str, str]) -> None:
        """Replace the files, and let the pod read them when it would by itself."""
        self._generation += 1
        made = self._directory / f"..{self._generation}" / "configmap" / KEYS
        made.mkdir(parents=True)
        for name, text in data.items():
            (made / name).write_text(text)
        link = self._directory / "..new"
        link.symlink_to(f"..{self._generation}")
        link.rename(self._directory / "..data")
        if not (self._directory / "configmap").is_symlink():
            (self._directory / "configmap").symlink_to("..data/configmap")
        self._clock += REREAD
        self._pod._reread()

    def accepts(self, token: str) -> bool:
        """Return True if the pod admits a request with this token."""
        try:
            self._pod.authenticator.admit(head(f"Bearer {token}"), "net")
        except HttpError:
            return False
        return True


def test_tokens_of_a_key_that_is_no_longer_published_are_refused(
    assets: Path, tmp_path: Path
) -> None:
    settings = Settings.new()
    kubelet = Kubelet(tmp_path / "values")
    with ExitStack() as programs:
        with running(assets, tmp_path, settings) as server:
            stage = Stage(server, "default")
            _install_crd(stage)
            stage.kubectl("create", "serviceaccount", "bot")
            log = tmp_path / "operator.log"
            operator = programs.enter_context(operating(server.kubeconfig, log=log))
            stage.apply(authentication=ACCEPTED)
            stage.wait(f"configmap/{KEYS}", "create")
            kubelet.mount(stage.get(f"configmap/{KEYS}")["data"])
            before = _token(stage)
            assert kubelet.accepts(before)
        with running(assets, tmp_path, replace(settings, key="other")) as server:
            stage = Stage(server, "default")
            began = time.monotonic()
            after = _token(stage)
            assert not kubelet.accepts(after)
            operator.until(lambda: _delivered(stage) == _published(stage), "the new key", times=8)
            seconds = time.monotonic() - began
            kubelet.mount(stage.get(f"configmap/{KEYS}")["data"])
            assert kubelet.accepts(after)
            assert not kubelet.accepts(before)
            assert seconds < POLL + FRESH + OUTAGE
            programs.close()


def _install_crd(stage: Stage) -> None:
    stage.kubectl("apply", "--server-side", "-f", "-", input=crd.render())
    stage.wait(f"crd/{constants.CRD_NAME}", "condition=Established")


def _token(stage: Stage) -> str:
    return stage.kubectl("create", "token", "bot", f"--audience={AUDIENCE}").strip()


def _delivered(stage: Stage) -> set[str]:
    """Return the ids of the keys in the ConfigMap."""
    return _ids(stage.get(f"configmap/{KEYS}")["data"]["jwks"])


def _published(stage: Stage) -> set[str]:
    """Return the ids of the keys that the API server publishes."""
    return _ids(stage.kubectl("get", "--raw", KEY_SET))


def _ids(key_set: str) -> set[str]:
    return {str(key["kid"]) for key in json.loads(key_set)["keys"]}
