"""Settings of a runtime that do not come from the manifest."""

import argparse
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from mcpproxy.api import constants

_HEADER: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")
MAX_PORT: Final = 65535
ANYWHERE: Final = ("0.0.0.0", "::", "")
"""Wildcard hosts, to which no client can connect."""
AdminPage = Literal["local", "all"]
"""Visitors of the page of the admin port: those of the same machine or pod, or all."""
DRAIN: Final = 30
"""Seconds for calls in flight to complete after SIGTERM."""


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """Addresses of a proxy and its settings from the command line."""

    host: str = "127.0.0.1"
    port: int = 8000
    path: str = constants.MCP_PATH
    admin_host: str = "127.0.0.1"
    admin_port: int | None = None
    admin_page: AdminPage = "local"
    keeps_calls: bool = False
    """True if the page of another process's admin port shows the last calls of this one."""
    values: Path = Path(constants.VALUES_DIR)
    sealing_keys: Path | None = None
    resolve: Mapping[str, str] = field(default_factory=dict)
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    audit_descriptor: int = 1
    """Descriptor for lines of the audit log; standard output, unless clients read it."""
    principal_from: str | None = None
    """Header that names the user; that of the manifest takes precedence."""
    drain: int = DRAIN
    """Seconds for calls in flight to complete after SIGTERM."""
    reachable: str | None = None
    """Address at which other machines reach this one; None if it is `host`."""
    instances: tuple[tuple[str, int], ...] = ()
    """Hosts and ports of all instances, which work together; a host may have several addresses."""
    own_port: int | None = None
    """Port of this process alone, if worker processes share `port`."""
    keys: tuple[bytes, ...] = ()
    """Sealing keys, if they are not in a directory."""
    probe_delay_factor: float = 1.0
    """Multiple of the check interval to wait for the result of another worker process."""

    @property
    def reachable_host(self) -> str:
        """The host at which other processes reach this one."""
        return self.reachable or ("127.0.0.1" if self.host in ANYWHERE else self.host)


def parse_seconds(text: str) -> float:
    """Return a positive number of seconds on the command line. Raise ArgumentTypeError."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds greater than 0")
    return seconds


def parse_header(text: str) -> tuple[str, str]:
    """Return the name and the value of a header on the command line. Raise ArgumentTypeError."""
    match = _HEADER.fullmatch(text)
    if match is None or not match[2].isprintable():
        # The text may be a secret.
        raise argparse.ArgumentTypeError("expected a header, such as 'Authorization: Bearer x'")
    return match[1], match[2]


def parse_port(text: str) -> int:
    """Return a port on the command line. Raise ArgumentTypeError."""
    if not text.isdecimal() or int(text) > MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a valid port; use 0 to {MAX_PORT}")
    return int(text)


def parse_name(text: str) -> str:
    """Return the name of a proxy on the command line. Raise ArgumentTypeError."""
    if not constants.is_dns_label(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a name; use lower case letters, digits and -, starting with a letter"
        )
    return text


def parse_path(text: str) -> str:
    """Return a path on the command line. Raise ArgumentTypeError."""
    if not text.startswith("/"):
        raise argparse.ArgumentTypeError(f"{text!r} must start with /")
    return text


def parse_resolution(text: str) -> tuple[str, str]:
    """Parse an argument NAME=HOST:PORT into a pair."""
    name, equals, address = text.partition("=")
    host, colon, port = address.rpartition(":")
    if not (name and equals and host and colon and port.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=HOST:PORT")
    return name, address
