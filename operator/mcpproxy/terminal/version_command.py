"""`mcpproxy version`: versions of the installation, for reports of problems."""

import argparse
import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Final

PACKAGES: Final = ("mcp", "pydantic", "uvloop", "kopf", "kubernetes")
"""Packages whose versions matter most; those that are not installed are left out."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `mcpproxy version`."""
    parser.add_argument(
        "-o", "--output", choices=("text", "json"), default="text", help="%(default)s"
    )
    parser.add_argument("--short", action="store_true", help="the version of mcpproxy only")


def main(args: argparse.Namespace) -> int:
    """Print the versions. Return 0."""
    versions = collect_versions()
    if args.short:
        sys.stdout.write(f"{versions['mcpproxy']}\n")
    elif args.output == "json":
        sys.stdout.write(json.dumps(versions, indent=2) + "\n")
    else:
        width = max(map(len, versions))
        sys.stdout.writelines(f"{name:<{width}}  {text}\n" for name, text in versions.items())
    return 0


def collect_versions() -> dict[str, str]:
    """Return the version of mcpproxy, of Python, of the system and of the main packages."""
    versions = {
        "mcpproxy": version("mcpproxy-operator"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
