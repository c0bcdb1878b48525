"""Credentials for a server that a command connects to: options, files and the environment.

The values are never part of a message.
"""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.proxy.config.options import parse_header

TOKEN: Final = "MCPPROXY_TOKEN"
"""Environment variable with a token."""
_AUTHORIZATION: Final = "authorization"


def add_credentials(parser: argparse.ArgumentParser) -> None:
    """Declare the options for headers and tokens of HTTP requests."""
    add = parser.add_argument
    add(
        "-H",
        "--header",
        action="append",
        default=[],
        type=parse_header,
        metavar="'NAME: VALUE'",
        help="send this header with HTTP requests; repeatable",
    )
    add(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="send the token in this file as Authorization: Bearer; without -H Authorization, the"
        f" environment variable {TOKEN} is another way to set it",
    )


def request_headers(args: argparse.Namespace, *, over_http: bool = True) -> dict[str, str]:
    """Return the headers that the options set, and the environment if `over_http` is true.

    Raise ManifestError.
    """
    headers = dict(args.header)
    is_given = any(name.lower() == _AUTHORIZATION for name in headers)
    if args.token_file is not None:
        if is_given:
            raise ManifestError("--token-file: -H sets Authorization already; use one of the two")
        headers["Authorization"] = f"Bearer {_read_token(args.token_file)}"
    elif over_http and not is_given and (token := os.environ.get(TOKEN)):
        headers["Authorization"] = f"Bearer {_check_token(token, TOKEN)}"
    return headers


def redact_values(text: str, headers: Mapping[str, str]) -> str:
    """Return a text without the values of headers, which a server may repeat in its messages."""
    for value in sorted(headers.values(), key=len, reverse=True):
        for secret in (value, value.rpartition(" ")[2]):
            if secret:
                text = text.replace(secret, "[redacted]")
    return text


def _read_token(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text in UTF-8"
        raise ManifestError(f"--token-file {path}: {reason}") from None
    return _check_token(text.strip(), f"--token-file {path}")


def _check_token(token: str, source: str) -> str:
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ManifestError(f"{source}: expected one token without spaces, found something else")
    return token
