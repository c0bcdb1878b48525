"""Parsing of the command line. Only the modules of the chosen command are imported."""

import argparse
import importlib
import re
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from types import ModuleType
from typing import Any, NoReturn

from mcpproxy.api.field_messages import did_you_mean
from mcpproxy.api.manifest_errors import MAX_PROBLEM
from mcpproxy.api.untrusted_text import clean_text

COMMANDS = {
    "run": ("mcpproxy.terminal.run_command", "run the proxy in front of MCP servers"),
    "list": ("mcpproxy.terminal.list_command", "show the tools of a server"),
    "call": ("mcpproxy.terminal.call_command", "call a tool of a server"),
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
    "validate": "runtime",
    "convert": "runtime",
    "operator": "controller",
}
WRONG_CALL = {"plan": 1}
"""Exit codes for invalid command lines, for commands in which 2 has another meaning."""


class CommandParser(argparse.ArgumentParser):
    """Parser whose errors suggest the word that was probably meant."""

    wrong_call = 2

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        text = clean_text(f"{self.prog}: error: {message}{self._suggest(message)}", MAX_PROBLEM)
        self.exit(self.wrong_call, f"{text}\n")

    def _suggest(self, message: str) -> str:
        """Return the command or option that was probably meant."""
        choices = [option for action in self._actions for option in action.option_strings]
        choices += [name for action in self._actions for name in action.choices or ()]
        words = re.findall(r"[\w-]+", message.rpartition(":")[2].partition("(choose")[0])
        return next(filter(None, (did_you_mean(word, choices) for word in words)), "")


class SubcommandParser(CommandParser):
    """Parser of one command, which may have options between its arguments."""

    _is_parsing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._is_parsing:
            return super().parse_known_args(args, namespace)
        self._is_parsing = True
        try:
            parsed, rest = self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_parsing = False
        if rest:
            # The parent would report them with its own usage.
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return parsed, rest


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
