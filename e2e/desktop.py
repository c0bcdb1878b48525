"""The machine of a user, whose browser signs in by itself, with clients of other makers."""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters

from scripts import npm
from scripts.demo_local import free_ports
from scripts.keycloak_admin import Keycloak
from scripts.machine import ROOT
from tests.docs.blocks import blocks
from tests.peers.world import INSPECTOR

USER = "alice"
PASSWORD = "password-of-alice"
CLIENT = "mcp"
BROWSER = (sys.executable, "-m", "tests.browser.sign_in")
SECONDS = 120


@dataclass(frozen=True)
class Desktop:
    """A home directory with a browser in PATH."""

    home: Path
    keycloak: Keycloak
    authorities: Path | None = None
    """Certificates of the authorities that the user's programs trust; by default Keycloak's."""

    def __post_init__(self) -> None:
        self.home.mkdir()
        self._log.touch()
        command = f'cd "{ROOT}" && exec {shlex.join(BROWSER)} "$1"'
        program = f'#!/bin/sh\necho "$1" >>"{self._log}"\n{command}\n'
        self._program.write_text(program, encoding="utf-8")
        self._program.chmod(0o755)

    @property
    def _program(self) -> Path:
        return self.home / "xdg-open"

    @property
    def _log(self) -> Path:
        return self.home / "browser.log"

    def environment(self) -> dict[str, str]:
        """The environment of the user's programs."""
        path = os.pathsep.join([os.fspath(ROOT), os.environ.get("PYTHONPATH", "")])
        return {
            **os.environ,
            "SIGN_IN_USER": USER,
            "SIGN_IN_PASSWORD": PASSWORD,
            "PYTHONPATH": path,
            "PATH": f"{self.home}:{os.environ['PATH']}",
            "BROWSER": os.fspath(self._program),
            "HOME": os.fspath(self.home),
            "MCP_AUTO_OPEN_ENABLED": "true",
            "MCP_INSPECTOR_SECRET_STORE": "memory",
            "NODE_EXTRA_CA_CERTS": os.fspath(self.authorities or self.keycloak.authorities or ""),
        }

    def pages(self) -> list[str]:
        """The URLs that clients have opened in the browser."""
        return self._log.read_text(encoding="utf-8").splitlines()

    def browse(self, url: str) -> str:
        """Sign in at a page of Keycloak; return the URL to which the user is sent back."""
        return self._run(*BROWSER, url)

    def mcp_remote(self, url: str) -> Client:
        """A client of mcp-remote, which is started as docs/keycloak.md says."""
        [block] = blocks("keycloak.md", "client: mcp-remote")
        words = shlex.split(block.commands.replace('"$MCP"', url))
        assert words[:3] == ["npx", "mcp-remote", url]
        [port] = free_ports(1)
        remote = os.fspath(npm.module("mcp-remote", "dist/proxy.js"))
        options = [str(port), *words[3:], "--allow-http"]
        node = os.fspath(npm.NODE)
        command = StdioServerParameters(
            command=node, args=[remote, url, *options], env=self.environment()
        )
        return Client(command)

    def inspect(self, url: str, *arguments: str) -> Any:
        """The result that the Inspector's command line prints."""
        [port] = free_ports(1)
        sign_in = ("--client-id", CLIENT, "--callback-url", f"http://127.0.0.1:{port}/callback")
        command = (os.fspath(npm.NODE), INSPECTOR, "--cli", url, "--transport", "http", *sign_in)
        return json.loads(self._run(*command, *arguments, "--format", "json"))["result"]

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout
