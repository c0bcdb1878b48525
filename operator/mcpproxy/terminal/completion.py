"""`mcpproxy completion`: scripts for shells, generated from the parsers of all commands."""

import argparse
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

PROGRAM: Final = "mcpproxy"
_FILES: Final = re.compile(r"FILE|DIR|MANIFEST|TARGET")
"""Placeholders of arguments that may be files."""


@dataclass(frozen=True, slots=True)
class CompletedOption:
    """An option of a command."""

    names: tuple[str, ...]
    text: str
    choices: tuple[str, ...]
    takes_value: bool
    is_file: bool


@dataclass(frozen=True, slots=True)
class CompletedCommand:
    """A command, its options, and the words that its arguments may be."""

    name: str
    text: str
    options: tuple[CompletedOption, ...]
    words: tuple[str, ...]
    takes_files: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the argument of `mcpproxy completion`."""
    parser.add_argument("shell", choices=tuple(SHELLS), help="shell that reads the script")


def main(args: argparse.Namespace) -> int:
    """Print the script. Return 0."""
    sys.stdout.write(render_completion(args.shell, args.build_parser()))
    return 0


def render_completion(shell: str, parser: argparse.ArgumentParser) -> str:
    """Return the script of a shell for a parser with commands."""
    return "\n".join(SHELLS[shell](collect_commands(parser))) + "\n"


def collect_commands(parser: argparse.ArgumentParser) -> list[CompletedCommand]:
    """Return the commands of a parser."""
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    texts = {action.dest: action.help or "" for action in commands._choices_actions}
    return [_command(name, texts[name], sub) for name, sub in commands.choices.items()]


def _command(name: str, text: str, parser: argparse.ArgumentParser) -> CompletedCommand:
    arguments = [action for action in parser._actions if not action.option_strings]
    return CompletedCommand(
        name,
        text,
        tuple(_option(parser, action) for action in parser._actions if action.option_strings),
        tuple(str(word) for action in arguments for word in action.choices or ()),
        any(_FILES.search(str(action.metavar)) for action in arguments),
    )


def _option(parser: argparse.ArgumentParser, action: argparse.Action) -> CompletedOption:
    text = (action.help or "") % {**vars(action), "prog": parser.prog}
    return CompletedOption(
        tuple(action.option_strings),
        " ".join(text.split()),
        tuple(map(str, action.choices or ())),
        action.nargs != 0,
        bool(_FILES.search(str(action.metavar))),
    )


def _bash(commands: list[CompletedCommand]) -> Iterator[str]:
    names = " ".join(command.name for command in commands)
    yield f'# bash completion for {PROGRAM}: eval "$({PROGRAM} completion bash)"'
    yield f"_{PROGRAM}() {{"
    yield '  local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}"'
    yield "  COMPREPLY=()"
    yield '  if [ "$COMP_CWORD" = 1 ]; then'
    yield f'    COMPREPLY=($(compgen -W "{names} --help --version" -- "$cur")); return'
    yield "  fi"
    yield '  case "${COMP_WORDS[1]}:$prev" in'
    for command in commands:
        for option in command.options:
            patterns = "|".join(f"{command.name}:{name}" for name in option.names)
            if option.choices:
                choices = " ".join(option.choices)
                yield f'    {patterns}) COMPREPLY=($(compgen -W "{choices}" -- "$cur")); return;;'
            elif option.takes_value:
                reply = 'COMPREPLY=($(compgen -f -- "$cur")); ' if option.is_file else ""
                yield f"    {patterns}) {reply}return;;"
    yield "  esac"
    yield '  case "${COMP_WORDS[1]}" in'
    for command in commands:
        words = [name for option in command.options for name in option.names]
        words += command.words
        files = " -f" if command.takes_files else ""
        text = " ".join(words)
        yield f'    {command.name}) COMPREPLY=($(compgen{files} -W "{text}" -- "$cur"));;'
    yield "  esac"
    yield "}"
    yield f"complete -o filenames -F _{PROGRAM} {PROGRAM}"


def _zsh(commands: list[CompletedCommand]) -> Iterator[str]:
    yield f"#compdef {PROGRAM}"
    yield f"# zsh completion for {PROGRAM}: source <({PROGRAM} completion zsh)"
    yield f"_{PROGRAM}() {{"
    yield "  local -a commands"
    yield "  commands=("
    for command in commands:
        yield f"    {shlex.quote(f'{command.name}:{_plain(command.text)}')}"
    yield "  )"
    yield "  if (( CURRENT == 2 )); then _describe command commands; return; fi"
    yield "  case $words[2] in"
    for command in commands:
        yield f"    {command.name})"
        yield "      shift words; (( CURRENT-- ))"
        yield "      _arguments \\"
        for option in command.options:
            for name in option.names:
                yield f"        {shlex.quote(_zsh_option(name, option))} \\"
        words = f"({' '.join(command.words)})" if command.words else ""
        action = words or ("_files" if command.takes_files else "")
        yield f"        {shlex.quote(f'*:argument:{action}')};;"
    yield "  esac"
    yield "}"
    yield f"compdef _{PROGRAM} {PROGRAM}"


def _zsh_option(name: str, option: CompletedOption) -> str:
    text = f"{name}[{_plain(option.text)}]"
    if not option.takes_value:
        return text
    choices = f"({' '.join(option.choices)})" if option.choices else ""
    return f"*{text}:value:{choices or ('_files' if option.is_file else '')}"


def _plain(text: str) -> str:
    """Return a description without the characters that separate parts of zsh's arguments."""
    return re.sub(r"[\[\]:\\]", " ", text)


def _fish(commands: list[CompletedCommand]) -> Iterator[str]:
    yield f"# fish completion for {PROGRAM}: {PROGRAM} completion fish | source"
    yield f"complete -c {PROGRAM} -f"
    for command in commands:
        text = shlex.quote(command.text)
        yield f"complete -c {PROGRAM} -n __fish_use_subcommand -a {command.name} -d {text}"
    for command in commands:
        begin = f"complete -c {PROGRAM} -n '__fish_seen_subcommand_from {command.name}'"
        if command.takes_files:
            yield f"{begin} -F"
        if command.words:
            yield f"{begin} -a {shlex.quote(' '.join(command.words))}"
        for option in command.options:
            names = " ".join(
                f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"
                for name in option.names
            )
            value = " -r" if option.takes_value else ""
            value += f" -a {shlex.quote(' '.join(option.choices))}" if option.choices else ""
            value += " -F" if option.is_file else ""
            yield f"{begin} {names}{value} -d {shlex.quote(option.text)}"


SHELLS: Final = {"bash": _bash, "zsh": _zsh, "fish": _fish}
