"""Run the checks against a server: `python -m tests.resource_server --url URL`."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.resource_server import certificates, scenarios
from tests.resource_server.check import CHECKS, Failed, Result, Severity
from tests.resource_server.http_client import NoResponse
from tests.resource_server.issuer_server import serving
from tests.resource_server.run import await_server, failures, report, run, selected
from tests.resource_server.target import Options, Target

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the command line's values."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.resource_server",
        description="Check an MCP server as an OAuth 2.0 resource server.",
        epilog="README.md in this folder says how the server has to be configured.",
    )
    add = parser.add_argument
    add("--url", help="the address at which the server is reached")
    add("--public-url", help="its resource identifier; default: the same")
    add("--issuer-port", type=int, default=9400, help="port of the issuers (%(default)s)")
    add("--issuer-tls", type=Path, metavar="DIR", help="issuers use TLS; writes DIR/ca.crt")
    add("--scope", default="", help="scope of every good token")
    add("--leeway", type=float, default=60.0, help="clock skew that the server tolerates, s (60)")
    add("--refetch-seconds", type=float, default=30.0, help="interval of key set requests (30)")
    add("--revocation-seconds", type=float, default=60.0, help="life of removed keys, s (60)")
    add("--timeout", type=float, default=30.0, help="longest time to wait for a response, s (30)")
    add("--wait", type=float, default=60.0, help="longest time until the server is ready, s (60)")
    add("--tool", default="", help="a tool that may be called without arguments, and often")
    add("--scoped-tool", default="", help="a tool that needs scopes")
    add("--scoped-tool-scopes", default="", help="these scopes, separated by spaces")
    add("--token-bytes", type=int, default=0, help="size of the largest token that it reads")
    add("--browser-origin", default="", help="an origin of pages that the server admits")
    add("--main-issuer-only", action="store_true", help="the server trusts the issuer main alone")
    add("--slow", action="store_true", help="also run the checks that take a minute")
    add("--only", default="", help="ids of checks, or globs, separated by commas")
    add("--json", action="store_true", help="print the report as JSON")
    add("--list", action="store_true", help="print all checks and exit")
    add("--list-issuers", action="store_true", help="print the issuers to trust and exit")
    return parser.parse_args(arguments)


def _print(result: Result) -> None:
    mark = {"pass": "ok  ", "fail": "FAIL", "skip": "skip"}[result.outcome]
    sys.stdout.write(f"{mark} {result.severity:<6} {result.id}: {result.rule}\n")
    if result.reason:
        sys.stdout.write(f"       {result.reason}\n       {result.source}\n")
    sys.stdout.flush()


def _keep_silent(result: Result) -> None:
    """Leave the output to the report."""


def _list() -> None:
    for item in CHECKS.values():
        sys.stdout.write(f"{item.id}\t{item.severity.value}\t{item.rule}\t{item.source}\n")


def _run(values: argparse.Namespace) -> int:
    public = values.public_url or values.url or "http://127.0.0.1"
    tls = certificates.server_context(values.issuer_tls) if values.issuer_tls else None
    options = Options(
        url=values.url or "",
        public_url=public,
        leeway=values.leeway,
        refetch_seconds=values.refetch_seconds,
        revocation_seconds=values.revocation_seconds,
        timeout=values.timeout,
        tool=values.tool,
        scoped_tool=values.scoped_tool,
        scoped_tool_scopes=tuple(values.scoped_tool_scopes.split()),
        token_bytes=values.token_bytes,
        browser_origin=values.browser_origin,
        main_issuer_only=values.main_issuer_only,
        slow=values.slow,
    )
    with serving(values.issuer_port, public, values.scope, tls) as server:
        scenarios.create(server)
        if values.list_issuers:
            sys.stdout.write("\n".join(scenarios.trusted(server)) + "\n")
            return EXIT_OK
        target = Target(options, server)
        await_server(target, values.wait)
        show = _keep_silent if values.json else _print
        results = run(target, selected(values.only), show)
        content = report(results)
        if values.json:
            sys.stdout.write(json.dumps(content, indent=2) + "\n")
        else:
            sys.stdout.write(f"{content['counts']}\n")
    return EXIT_FAILED if failures(results, Severity.MUST) else EXIT_OK


def main(arguments: Sequence[str]) -> int:
    """Run the program; 1 if a check of severity MUST failed, 2 if nothing could be checked."""
    values = parse(arguments)
    if values.list:
        _list()
        return EXIT_OK
    if not values.url and not values.list_issuers:
        sys.stderr.write("--url is missing: the address of the server, ending with its path\n")
        return EXIT_USAGE
    try:
        return _run(values)
    except (Failed, NoResponse, OSError) as problem:
        sys.stderr.write(f"{problem}\n")
        return EXIT_USAGE


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    # Threads that serve slow key sets may remain.
    os._exit(code)
