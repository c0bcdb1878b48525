"""Fixtures for tests of the Helm charts."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from scripts import go_tools
from tests.apiserver.server import ApiServer, running
from tests.charts.helm import Helm


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm; without it, tests fail."""
    program = go_tools.helm()
    if program is None:
        pytest.fail(f"helm is missing; install it with: {go_tools.INSTALL}")
    return Helm(program, tmp_path_factory.mktemp("helm"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    """An empty API server for one test."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if not assets:
        pytest.fail("KUBEBUILDER_ASSETS is not set: a directory with etcd and kube-apiserver")
    with running(Path(assets), tmp_path) as result:
        yield result


@pytest.fixture
def cluster_helm(helm: Helm, server: ApiServer) -> Helm:
    """Helm for the API server."""
    return replace(helm, kubeconfig=server.kubeconfig)
