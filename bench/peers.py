"""The proxies of other makers, each in an environment of its own below .bench/.

They are installed once, in their current releases; `rm -r .bench` has them installed anew.
"""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

CACHE: Final = Path(__file__).parent.parent / ".bench"
UNBOUND: Final = frozenset({"certifi"})
"""Requirements whose lower bounds are ignored: FastMCP asks for a release of certifi that is newer
than what some indexes have, and pip would then install an old FastMCP instead."""
_REQUIRES: Final = "import importlib.metadata as m, sys; print('\\n'.join(m.requires(sys.argv[1])))"
_VERSION: Final = "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))"
_TIMEOUT: Final = 300


class NotInstalled(Exception):
    """A peer can't be had here; the message says why."""


def fastmcp(install: bool) -> Path:
    """The Python that has FastMCP's current release. Raises NotInstalled."""
    return _environment("fastmcp", install)


def mcp_proxy(install: bool) -> Path:
    """The Python that has mcp-proxy's current release. Raises NotInstalled."""
    return _environment("mcp-proxy", install)


def version(python: Path, distribution: str) -> str:
    """The version of a distribution in an environment."""
    return _output(python, _VERSION, distribution).strip()


def _environment(name: str, install: bool) -> Path:
    python = CACHE / name / "bin" / "python"
    done = CACHE / name / ".installed"
    if done.exists():
        return python
    if not install:
        raise NotInstalled(f"{name} is left out: `make bench` installs it")
    print(f"installing {name} into {CACHE.name}/{name}", flush=True)
    try:
        subprocess.run([sys.executable, "-m", "venv", str(CACHE / name)], check=True)
        if name == "fastmcp":
            _install_fastmcp(python)
        else:
            _pip(python, name)
    except (subprocess.SubprocessError, OSError) as error:
        print(error, flush=True)
        raise NotInstalled(f"{name} is left out: pip can't install it") from error
    done.touch()
    return python


def _install_fastmcp(python: Path) -> None:
    _pip(python, "--no-deps", "fastmcp")
    _pip(python, "--no-deps", *needed(_requires(python, "fastmcp")))
    extras = [extra for need in _slim(python) for extra in Requirement(need).extras]
    _pip(python, *needed(_requires(python, "fastmcp-slim"), extras))


def _slim(python: Path) -> list[str]:
    return [
        need for need in needed(_requires(python, "fastmcp")) if need.startswith("fastmcp-slim")
    ]


def needed(requires: Iterable[str], extras: Iterable[str] = ()) -> list[str]:
    """The requirements that hold here with these extras; those of UNBOUND without a version."""
    results = []
    for line in requires:
        requirement = Requirement(line)
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            continue
        bound = "" if requirement.name in UNBOUND else str(requirement.specifier)
        chosen = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
        results.append(f"{requirement.name}{chosen}{bound}")
    return list(dict.fromkeys(results))


def _requires(python: Path, distribution: str) -> list[str]:
    return _output(python, _REQUIRES, distribution).splitlines()


def _output(python: Path, program: str, argument: str) -> str:
    command = [str(python), "-c", program, argument]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout


def _pip(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *arguments], check=True, timeout=_TIMEOUT)
