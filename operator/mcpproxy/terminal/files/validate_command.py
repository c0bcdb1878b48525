"""`mcpproxy validate`: check manifests and mcpServers files without a network.

0: all files are valid; 1: at least one is not; 2: the command line is invalid.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.plan.manifests import read_manifests
from mcpproxy.proxy import process
from mcpproxy.proxy.config.targets import is_manifest, read_text
from mcpproxy.terminal.files.conversion import convert_file
from mcpproxy.terminal.files.images import RUNTIME, lacks

STDIN: Final = "-"
MAX_LINE: Final = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `mcpproxy validate`."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="YAML or JSON file with MCPProxies, or a client's configuration; - reads stdin",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print errors only")


def main(args: argparse.Namespace) -> int:
    """Print one line for each valid MCPProxy and one for each problem. Return the exit code."""
    process.log_to_stderr("warning")
    code = 0
    for file in args.files:
        try:
            lines, warnings = _check(file)
        except (ManifestError, ValueError, OSError) as error:
            process.report_failure("mcpproxy validate", error)
            code = 1
        else:
            if not args.quiet:
                sys.stdout.writelines(
                    f"{clean_text(f'{file}: {line}', MAX_LINE)}\n" for line in lines
                )
                sys.stdout.flush()
                for line in warnings:
                    text = f"mcpproxy validate: warning: {file}: {line}"
                    process.report_error(clean_text(text, MAX_LINE))
    return code


def _check(file: str) -> tuple[list[str], list[str]]:
    """Return a line for each MCPProxy of a file, and warnings. Raise ManifestError."""
    path = Path(file)
    if file != STDIN and path.suffix in (".json", ".toml") and not is_manifest(path):
        servers = convert_file(path)
        count = _count(servers.proxy)
        line = f"{count} can be served by mcpproxy run, or in a cluster after mcpproxy convert"
        return [line], []
    text = sys.stdin.read() if file == STDIN else read_text(path)
    try:
        parsed = read_manifests(text, None)
    except ManifestError as error:
        raise error.in_file("stdin" if file == STDIN else file) from error
    lines = [
        f"MCPProxy {proxy.metadata.name} is valid, with {_count(proxy)}" for proxy in parsed.proxies
    ]
    return lines, [line for proxy in parsed.proxies for line in _warnings(proxy)]


def _warnings(proxy: MCPProxy) -> Iterator[str]:
    """Yield a line for each stdio server that cannot start in the default image."""
    if proxy.spec.image is not None:
        return
    for backend in proxy.spec.backends:
        if backend.stdio is None:
            continue
        stdio, field = backend.stdio, f"MCPProxy {proxy.metadata.name}: backend {backend.name}"
        lacking = lacks(stdio.command, stdio.args or (), stdio.cwd)
        if lacking:
            yield (
                f"{field}: {RUNTIME} has no {', '.join(lacking)}; set spec.image to an image that"
                " has, or replace stdio with service or url"
            )


def _count(proxy: MCPProxy) -> str:
    number = len(proxy.spec.backends)
    return f"{number} backend{'' if number == 1 else 's'}"
