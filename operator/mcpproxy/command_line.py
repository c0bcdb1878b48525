"""Parsing of the command line. Only the modules of the chosen command are imported."""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import NoReturn

COMMANDS = {
    "run": ("mcpproxy.terminal.run_command", "run the proxy in front of MCP servers"),
    "plan": ("mcpproxy.plan.command", "show the components that a manifest would serve"),
    "list": ("mcpproxy.terminal.list_command", "show the tools of a server"),
    "call": ("mcpproxy.terminal.call_command", "call a tool of a server"),
    "operator": ("mcpproxy.controller.command", "run the operator"),
    "crd": ("mcpproxy.api.crd.definition", "print the CustomResourceDefinition"),
}
EXTRAS = {
    "run": "runtime",
    "plan": "runtime",
    "list": "runtime",
    "call": "runtime",
    "operator": "controller",
}
WRONG_CALL = {"plan": 1}
"""Exit codes for invalid command lines, for commands in which 2 has another meaning."""


class _Parser(argparse.ArgumentParser):
    wrong_call = 2

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(self.wrong_call, f"{self.prog}: error: {message}\n")


def parse_command_line(argv: Sequence[str] | None) -> tuple[argparse.Namespace, Callable[..., int]]:
    """Return the arguments and the function that runs the command. Exit if they are invalid."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _Parser(prog="mcpproxy", description="MCP proxies on Kubernetes")
    parser.add_argument(
        "--version", action="version", version=f"mcpproxy {version('mcpproxy-operator')}"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((word for word in arguments if not word.startswith("-")), None)
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
                f"{error.name} is not installed; run pip install"
                f" 'mcpproxy-operator[{EXTRAS[name]}]'"
            )
        modules[name].add_arguments(command)
    args = parser.parse_args(arguments)
    return args, modules[args.command].main
