"""`mcpproxy completion`, `version`, options between arguments, and `plan --watch`."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from mcpproxy import command_line
from mcpproxy.plan.local.watch import watch_file
from mcpproxy.proxy.process import INTERRUPTED
from mcpproxy.terminal.completion import collect_commands, render_completion
from tests.support.commands import run_command

PARSER = command_line.build_parser()
INSTALLED = [shell for shell in ("bash", "zsh", "fish") if shutil.which(shell)]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_and_option_is_completed(shell: str) -> None:
    text = render_completion(shell, PARSER)
    commands = collect_commands(PARSER)
    assert {command.name for command in commands} == command_line.COMMANDS.keys()
    for command in commands:
        for option in command.options:
            for name in option.names:
                assert (name.lstrip("-") if shell == "fish" else name) in text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["va"], {"validate"}),
        (["run", "--tr"], {"--transport"}),
        (["run", "--transport", ""], {"http", "stdio"}),
        (["completion", ""], {"bash", "zsh", "fish", "--help", "-h"}),
    ],
)
def test_bash_completes_words(words: list[str], expected: set[str], tmp_path: Path) -> None:
    path = tmp_path / "completion.bash"
    path.write_text(render_completion("bash", PARSER))
    line = " ".join(f"'{word}'" for word in ["mcpproxy", *words])
    program = (
        f"source {path}; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _mcpproxy;"
        ' printf "%s\\n" "${COMPREPLY[@]}"'
    )
    ended = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert set(ended.stdout.split()) == expected


@pytest.mark.parametrize(
    "shell", [shell for shell in ("bash", "zsh", "fish") if shutil.which(shell)]
)
def test_a_script_is_valid_for_its_shell(shell: str, tmp_path: Path) -> None:
    path = tmp_path / "completion"
    path.write_text(render_completion(shell, PARSER))
    subprocess.run([shell, "-n", path], check=True)


async def test_versions_are_printed_in_three_forms() -> None:
    whole = json.loads((await run_command("version", "-o", "json")).out)
    assert {"mcpproxy", "python", "system", "pydantic"} <= whole.keys()
    assert (await run_command("version", "--short")).out == f"{whole['mcpproxy']}\n"
    assert f"python      {whole['python']}" in (await run_command("version")).out


def test_options_may_stand_between_the_arguments_of_a_call() -> None:
    words = ["call", "http://a/mcp", "tool", "-o", "json", "x=1", "--timeout", "5", "y=2"]
    args, _ = command_line.parse_command_line(words)
    assert (args.tool, args.arguments, args.output) == ("tool", ["x=1", "y=2"], "json")


def test_a_plan_is_shown_again_after_each_change_until_ctrl_c(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, shown, naps = tmp_path / "x.yaml", [], iter(range(100))
    path.write_text("1")

    def show() -> int:
        shown.append(path.read_text())
        return 0

    def sleep(seconds: float) -> None:
        match next(naps):
            case 1:
                path.unlink()
            case 3:
                path.write_text("two")
            case 8:
                raise KeyboardInterrupt

    assert watch_file(path, show, sleep, lambda: "12:00:00") == INTERRUPTED
    assert shown == ["1", "two"]
    assert capsys.readouterr().out.count("12:00:00: waiting for changes of x.yaml") == 2


async def test_standard_input_cannot_be_watched() -> None:
    ended = await run_command("plan", "-f", "-", "--watch", stdin="")
    assert ended.code == 1
    assert ended.err == "mcpproxy plan: --watch: stdin does not change; use -f with a file\n"
