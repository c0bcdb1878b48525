"""The command line: `mcpproxy run | plan | operator | crd`. Parses, then hands over."""

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Final, NoReturn

from mcpproxy import standard_descriptors

COMMANDS = {
    "run": ("mcpproxy.proxy.command", "run the proxy in front of MCP servers"),
    "plan": ("mcpproxy.proxy.plan.command", "show what a manifest would serve"),
    "operator": ("mcpproxy.handlers.command", "run the operator"),
    "crd": ("mcpproxy.api.crd", "print the CustomResourceDefinition"),
}
EXTRAS = {"run": "runtime", "plan": "runtime", "operator": "controller"}
WRONG_CALL = {"plan": 1}
"""Exit codes of commands that were called wrongly, where 2 says something else."""


INTERRUPTED: Final = 130
"""Exit code after SIGINT, as shells have it."""


class _Parser(argparse.ArgumentParser):
    wrong_call = 2

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(self.wrong_call, f"{self.prog}: error: {message}\n")


def _stop(number: int, frame: object) -> None:
    sys.exit(0)


def _interrupt(number: int, frame: object) -> None:
    # An exception could end up anywhere in the modules that are being imported, as a traceback.
    os._exit(INTERRUPTED)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 1 (it failed) or 2 (it was called wrongly).

    `plan` has exit codes of its own. SIGINT while it starts gives 130.
    """
    # As the first process of a container nothing else would end us while modules are imported.
    signal.signal(signal.SIGTERM, _stop)
    on_interrupt = signal.signal(signal.SIGINT, _interrupt)
    standard_descriptors.reserve()
    try:
        args, command = _parsed(argv)
    finally:
        signal.signal(signal.SIGINT, on_interrupt)
    try:
        return command(args)
    except KeyboardInterrupt:
        return INTERRUPTED


def _parsed(argv: Sequence[str] | None) -> tuple[argparse.Namespace, Callable[..., int]]:
    """Parse the command line; only the modules of the chosen command are imported."""
    given = list(sys.argv[1:] if argv is None else argv)
    parser = _Parser(prog="mcpproxy", description="MCP proxies on Kubernetes")
    parser.add_argument(
        "--version", action="version", version=f"mcpproxy {version('mcpproxy-operator')}"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((word for word in given if not word.startswith("-")), None)
    parser.wrong_call = WRONG_CALL.get(chosen or "", parser.wrong_call)
    modules = {}
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        command.wrong_call = parser.wrong_call
        if name != chosen:
            continue
        try:
            modules[name] = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if name not in EXTRAS or (error.name or "").startswith("mcpproxy"):
                raise
            parser.error(
                f"{error.name} is not installed: pip install 'mcpproxy-operator[{EXTRAS[name]}]'"
            )
        modules[name].add_arguments(command)
    args = parser.parse_args(given)
    return args, modules[args.command].main
