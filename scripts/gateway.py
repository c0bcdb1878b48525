"""A Gateway API implementation from Go modules: `python -m scripts.gateway` builds Traefik.

No registry of images is needed. The build takes about six minutes on two cores and is kept in the
cache. Traefik's module cannot be installed as it is: it replaces modules, and it has clients of 180
DNS providers for ACME. The build leaves those clients out and changes nothing else.
"""

import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from scripts import machine

TRAEFIK: Final = "github.com/traefik/traefik/v3"
TRAEFIK_VERSION: Final = "v3.7.13"
GATEWAY_API: Final = "sigs.k8s.io/gateway-api"
GATEWAY_API_VERSION: Final = "v1.6.3"
IMAGE: Final = f"mcpproxy-test/traefik:{TRAEFIK_VERSION}"
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mcpproxy-gateway"

_ACME: Final = "github.com/go-acme/lego/v5"
_EXTENSION: Final = "github.com/traefik/traefik/dynamic/ext"
_BASIC_AUTH: Final = "github.com/containous/go-http-auth"
_NO_EXTENSION: Final = """\
// Package ext extends no configuration.
package ext

// HTTP has no fields.
type HTTP struct{}

// Router has no fields.
type Router struct{}
"""
_NO_DNS_PROVIDER: Final = """\
// Package dns has no provider of DNS challenges.
package dns

import (
	"fmt"

	"github.com/go-acme/lego/v5/challenge"
)

// NewDNSChallengeProviderByName always fails.
func NewDNSChallengeProviderByName(name string) (challenge.Provider, error) {
	return nil, fmt.Errorf("no provider of DNS challenges is built in: %s", name)
}
"""
_PUBLISHED_BASIC_AUTH: Final = "v0.4.1-0.20200324110947-a37a7636d23e"
"""Newest version of this module that the module proxy has; the fields in use are the same."""


def crds() -> Path:
    """Return the folder with the CustomResourceDefinitions of the Gateway API, standard channel."""
    return _module(GATEWAY_API, GATEWAY_API_VERSION) / "config" / "crd" / "standard"


def has_go() -> bool:
    """True if Go modules can be downloaded."""
    return shutil.which("go") is not None


def traefik() -> Path:
    """Return the path of Traefik's program, which is built if the cache lacks it."""
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    program = CACHE / f"traefik-{TRAEFIK_VERSION}-{recipe}"
    if not program.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as directory:
            _write_module(Path(directory))
            built = Path(directory) / "traefik"
            command = ["build", "-trimpath", "-ldflags", "-s -w", "-o", str(built)]
            _go(*command, f"{TRAEFIK}/cmd/traefik", cwd=Path(directory))
            built.rename(program)
    return program


def image(env: dict[str, str]) -> str:
    """Build the image of Traefik. Return its name."""
    with tempfile.TemporaryDirectory(dir=CACHE.parent) as directory:
        shutil.copy2(traefik(), Path(directory) / "traefik")
        dockerfile = 'FROM scratch\nCOPY traefik /traefik\nENTRYPOINT ["/traefik"]\n'
        (Path(directory) / "Dockerfile").write_text(dockerfile, encoding="utf-8")
        machine.run(["docker", "build", "--tag", IMAGE, directory], env)
    return IMAGE


def _write_module(directory: Path) -> None:
    """Write a module that builds Traefik with the requirements of Traefik's own module."""
    source = _module(TRAEFIK, TRAEFIK_VERSION)
    own = (source / "go.mod").read_text(encoding="utf-8")
    requirements = own[own.index("\nrequire ") : own.index("\nreplace ")]
    mux = re.search(r"github\.com/gorilla/mux => \S+ \S+", own)
    excluded = re.search(r"\nexclude .*\n", own)
    version = re.search(rf"{_ACME} (\S+)", own)
    assert mux is not None
    assert excluded is not None
    assert version is not None
    lines = [
        "module gateway\n\ngo 1.26.0",
        f"require {TRAEFIK} {TRAEFIK_VERSION}",
        requirements,
        f"replace {_EXTENSION} => ./ext",
        f"replace {_ACME} => ./lego",
        f"replace github.com/abbot/go-http-auth => {_BASIC_AUTH} {_PUBLISHED_BASIC_AUTH}",
        f"replace {mux[0]}",
        excluded[0],
    ]
    (directory / "go.mod").write_text("\n".join(lines), encoding="utf-8")
    shutil.copyfile(source / "go.sum", directory / "go.sum")
    _write(directory / "ext" / "go.mod", f"module {_EXTENSION}\n\ngo 1.26\n")
    _write(directory / "ext" / "ext.go", _NO_EXTENSION)
    shutil.copytree(
        _module(_ACME, version[1]),
        directory / "lego",
        copy_function=shutil.copyfile,
        ignore=shutil.ignore_patterns("providers", "cmd", "e2e", "*_test.go"),
    )
    _copy_providers(_module(_ACME, version[1]), directory / "lego")


def _copy_providers(source: Path, copy: Path) -> None:
    """Copy the providers of challenges other than DNS."""
    # Folders of the module cache are read-only, and so are their copies.
    copy.chmod(0o755)
    (copy / "providers").mkdir()
    for path in (source / "providers").iterdir():
        if path.is_dir() and path.name != "dns":
            shutil.copytree(path, copy / "providers" / path.name, copy_function=shutil.copyfile)
    _write(copy / "providers" / "dns" / "dns.go", _NO_DNS_PROVIDER)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@functools.cache
def _module(name: str, version: str) -> Path:
    """Return the folder of a downloaded module, whose checksum Go has verified."""
    told: dict[str, Any] = json.loads(_go("mod", "download", "-json", f"{name}@{version}"))
    return Path(told["Dir"])


def _go(*arguments: str, cwd: Path | None = None) -> str:
    env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod" if cwd else ""}
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(
            ["go", *arguments],
            cwd=cwd or elsewhere,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise machine.CommandFailed(["go", *arguments], done.returncode, done.stdout + done.stderr)
    return done.stdout


if __name__ == "__main__":
    sys.stdout.write(f"{traefik()}\n")
