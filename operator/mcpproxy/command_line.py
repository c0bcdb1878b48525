"""Parsing of the command line. Only the modules of the chosen command are imported."""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from types import ModuleType

from mcpproxy.terminal.parsers import CommandParser, SubcommandParser

COMMANDS = {
    "run": ("mcpproxy.terminal.run_command", "run the proxy in front of MCP servers"),
    "list": ("mcpproxy.terminal.list_command", "show the tools of a server"),
    "call": ("mcpproxy.terminal.call_command", "call a tool of a server"),
    "open": ("mcpproxy.terminal.open_command", "open the page of a proxy in a browser"),
    "plan": ("mcpproxy.plan.command", "show the components that a manifest would serve"),
    "validate": ("mcpproxy.terminal.files.validate_command", "check a file without a network"),
    "convert": (
        "mcpproxy.terminal.files.convert_command",
        "make a manifest of the configuration of an MCP client",
    ),
    "operator": ("mcpproxy.controller.command", "run the operator"),
    "crd": ("mcpproxy.api.crd.definition", "print the CustomResourceDefinition"),
    "completion": ("mcpproxy.terminal.completion", "print a script that completes commands"),
    "version": ("mcpproxy.terminal.version_command", "show the versions of the installation"),
}
EXTRAS = {
    "run": "runtime",
    "plan": "runtime",
    "list": "runtime",
    "call": "runtime",
    "open": "runtime",
    "validate": "runtime",
    "convert": "runtime",
    "operator": "controller",
}
WRONG_CALL = {"plan": 1}
"""Exit codes for invalid command lines, for commands in which 2 has another meaning."""


def parse_command_line(argv: Sequence[str] | None) -> tuple[argparse.Namespace, Callable[..., int]]:
    """Return the arguments and the function that runs the command. Exit if they are invalid."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    parser, modules = _build(chosen)
    args = parser.parse_args(arguments)
    return args, modules[args.command].main


def build_parser() -> argparse.ArgumentParser:
    """Return a parser with the options of every command whose packages are installed."""
    parser, _ = _build(*COMMANDS, strict=False)
    return parser


def _build(*chosen: str | None, strict: bool = True) -> tuple[CommandParser, dict[str, ModuleType]]:
    """Return the parser and the modules of the commands that are parsed.

    With `strict`, missing packages of such a command end the program.
    """
    parser = CommandParser(prog="mcpproxy", description="MCP proxies on Kubernetes")
    parser.add_argument(
        "--version", action="version", version=f"mcpproxy {version('mcpproxy-operator')}"
    )
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=SubcommandParser
    )
    if strict and chosen:
        parser.wrong_call = WRONG_CALL.get(chosen[0] or "", parser.wrong_call)
    modules: dict[str, ModuleType] = {}
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(build_parser=build_parser)
        command.wrong_call = WRONG_CALL.get(name, command.wrong_call)
        if name not in chosen:
            continue
        try:
            modules[name] = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if name not in EXTRAS or (error.name or "").startswith("mcpproxy"):
                raise
            if not strict:
                continue
            parser.error(
                f"{error.name} is not installed; run pip install"
                f" 'mcpproxy-operator[{EXTRAS[name]}]'"
            )
        modules[name].add_arguments(command)
    return parser, modules
