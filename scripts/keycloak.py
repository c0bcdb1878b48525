"""Keycloak with the realm of e2e/keycloak, on loopback or as an image.

`python -m scripts.keycloak install` downloads it with Maven, `… install URL` from a URL, and
`… run RESOURCE` runs it. It needs Java 17. `run` prints how to get a token and serves until it is
interrupted.
"""

import hashlib
import os
import shutil
import sys
import threading
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from scripts import machine
from scripts.conformance_servers import running
from scripts.demo_local import free_ports
from scripts.keycloak_admin import ADMINISTRATOR, NAME, TIMEOUT, Keycloak
from scripts.machine import ROOT
from scripts.npm import PEERS

VERSION: Final = "26.7.3"
IMAGE: Final = f"mcpproxy/keycloak:{VERSION}"
_NAME: Final = f"keycloak-{VERSION}"
_ARTIFACT: Final = f"org.keycloak:keycloak-quarkus-dist:{VERSION}:zip"
_COPY: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
_SHA256: Final = "27a6535553c3cdcd083872ba40629efafb3475e3b758e0c6f691395561dd0f1f"
HOME: Final = PEERS / ".keycloak"
ARCHIVE: Final = HOME / "keycloak.zip"
DIRECTORY: Final = ROOT / "e2e" / "keycloak"
REALM: Final = DIRECTORY / "realm.json"
DOWNLOAD_SECONDS: Final = 400.0
BUILD_SECONDS: Final = 900.0
START_SECONDS: Final = 400.0
"""A start takes half a minute on an idle machine."""


class NotInstalled(Exception):
    """A program that Keycloak needs is absent. The message has the command that installs it."""


def check() -> None:
    """Raise NotInstalled unless Keycloak was downloaded and Java is installed."""
    if shutil.which("java") is None:
        raise NotInstalled("Java 17 is not installed (Debian: openjdk-17-jre-headless)")
    if not (HOME / _NAME / "bin" / "kc.sh").exists():
        raise NotInstalled("Keycloak is not installed; run: python -m scripts.keycloak install")


def install(url: str | None = None) -> None:
    """Download Keycloak, unless it is there: from a URL, or else with Maven.

    The file is `keycloak-quarkus-dist-VERSION.zip`, the artifact org.keycloak:keycloak-quarkus-dist
    of any Maven repository. Raise OSError, NotInstalled, CommandFailed, or ValueError for another
    file.
    """
    if (HOME / _NAME).exists() and ARCHIVE.exists():
        return
    HOME.mkdir(exist_ok=True)
    fetched = _download(url) if url else _copy_with_maven()
    with fetched.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != _SHA256:
        fetched.unlink()
        raise ValueError(f"{url or _ARTIFACT} has the SHA-256 {digest}, expected {_SHA256}")
    with zipfile.ZipFile(fetched) as content:
        content.extractall(HOME)
    fetched.replace(ARCHIVE)


def _download(url: str) -> Path:
    fetched = HOME / "fetched.zip"
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response, fetched.open("wb") as file:
        shutil.copyfileobj(response, file)
    return fetched


def _copy_with_maven() -> Path:
    """Return the archive from the repository that Maven is configured with."""
    if shutil.which("mvn") is None:
        raise NotInstalled(
            "Maven, which downloads Keycloak, is not installed (Debian: maven); or run:"
            " python -m scripts.keycloak install URL"
        )
    command = ["mvn", "--batch-mode", "--quiet", _COPY, f"-Dartifact={_ARTIFACT}"]
    command += [f"-DoutputDirectory={HOME}"]
    machine.run(command, dict(os.environ), timeout=DOWNLOAD_SECONDS)
    return HOME / f"keycloak-quarkus-dist-{VERSION}.zip"


def build_image(env: dict[str, str]) -> str:
    """Build the image from the downloaded archive. Return its name.

    Raise CommandFailed.
    """
    with _context() as context:
        command = ["docker", "build", "--network=host", "--tag", IMAGE, os.fspath(context)]
        if env.get("BASE_IMAGE"):
            command += ["--build-arg", f"BASE_IMAGE={env['BASE_IMAGE']}"]
        machine.run(command, env, timeout=BUILD_SECONDS)
    return IMAGE


@contextmanager
def _context() -> Iterator[Path]:
    """Yield a directory with nothing but the archive and the Dockerfile."""
    context = HOME / "context"
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir()
    os.link(ARCHIVE, context / ARCHIVE.name)
    shutil.copy(DIRECTORY / "Dockerfile", context)
    yield context
    shutil.rmtree(context)


@contextmanager
def serving(resource: str, log: Path, port: int = 0) -> Iterator[Keycloak]:
    """Run Keycloak with the realm, whose tokens are for the resource. Raise NotServing.

    It keeps nothing: each instance begins with the realm as it is in the file.
    """
    free = free_ports(2)
    port, management = port or free[0], free[1]
    imported = HOME / _NAME / "data" / "import"
    imported.mkdir(parents=True, exist_ok=True)
    shutil.copy(REALM, imported / "realm.json")
    # The program of a release archive is not executable in every archive tool.
    command = ["bash", os.fspath(HOME / _NAME / "bin" / "kc.sh"), "start-dev", "--import-realm"]
    command += ["--http-host=127.0.0.1", f"--http-port={port}", "--db=dev-mem", "--cache=local"]
    command += [f"--http-management-port={management}", "--http-management-host=127.0.0.1"]
    variables = {
        "MCP_RESOURCE": resource,
        "KC_BOOTSTRAP_ADMIN_USERNAME": ADMINISTRATOR[0],
        "KC_BOOTSTRAP_ADMIN_PASSWORD": ADMINISTRATOR[1],
        "JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1 -Xmx512m",
    }
    ready = f"/realms/{NAME}/.well-known/openid-configuration"
    with running(command, log, port, ready, patience=START_SECONDS, **variables):
        yield Keycloak(f"http://127.0.0.1:{port}")


def main(arguments: list[str]) -> int:
    """Install or run Keycloak."""
    match arguments:
        case ["install"] | ["install", _]:
            return _report(lambda: install(*arguments[1:]))
        case ["run", resource]:
            return _report(lambda: _run(resource))
    sys.stderr.write("usage: python -m scripts.keycloak install [URL] | run RESOURCE\n")
    return 2


def _run(resource: str) -> None:
    check()
    with serving(resource, HOME / "keycloak.log", port=8180) as keycloak:
        print(f"issuer: {keycloak.issuer}\na token of the agent: {keycloak.token()}")
        threading.Event().wait()


def _report(task: Callable[[], None]) -> int:
    """Carry out a task. Return the exit code, after the message of an error."""
    try:
        task()
    except (NotInstalled, machine.CommandFailed, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
