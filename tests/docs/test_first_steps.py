"""README and the pages for first steps, as they are printed, with the wheel of this tree."""

import os
import shutil
from pathlib import Path

import pytest

from mcpproxy.client_snippets import SHOWN, ClientSnippet, client_snippets
from mcpproxy.proxy.config.mcp_json import find_servers, read_file
from tests.docs.blocks import ROOT, blocks, run_blocks, shape
from tests.packaging.wheels import build_wheel, install_wheel, without_tree

README = "../README.md"
URL = "http://127.0.0.1:8000/mcp"
SNIPPETS = client_snippets("tools", URL)
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".demo", "__pycache__", ".*_cache", "node_modules"
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository, in whose .venv the wheel is installed."""
    copied = tmp_path_factory.mktemp("clone") / "mcpproxy-operator"
    shutil.copytree(ROOT, copied, ignore=LEFT_OUT, symlinks=True)
    install_wheel(build_wheel(tmp_path_factory.mktemp("wheel")), copied / ".venv")
    # `make install` would download the packages of the tests.
    (copied / ".venv" / "installed").touch()
    return copied


def _printed(page: str, kind: str, directory: Path, programs: Path) -> list[tuple[str, str | None]]:
    """Run the blocks of a page in a directory; return what each has printed, and should have."""
    result = blocks(page, kind)
    env = {**without_tree(), "PATH": f"{programs}:{os.environ['PATH']}"}
    printed = run_blocks(result, directory, env, 200)
    return [(o, b.printed) for o, b in zip(printed, result, strict=True)]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("page", "kind", "compared"),
    [
        (README, "run: readme", 2),
        ("from-mcp-json.md", "run: from-mcp-json", 3),
        ("from-mcp-remote.md", "run: from-mcp-remote", 1),
    ],
)
def test_a_page_of_first_steps_works_in_order_as_printed(
    page: str, kind: str, compared: int, copy: Path
) -> None:
    directory = copy.parent if page == "from-mcp-remote.md" else copy
    result = _printed(page, kind, directory, copy / ".venv" / "bin")
    printed = [(output, wanted) for output, wanted in result if wanted is not None]
    assert len(printed) >= compared
    for output, wanted in printed:
        assert shape(output) == shape(wanted)


def test_the_installation_in_the_readme_is_the_one_that_the_quick_start_tests() -> None:
    tested = {
        line
        for kind in ("set-up", "run: cluster")
        for block in blocks("quickstart.md", kind)
        for line in block.commands.splitlines()
    }
    (block,) = blocks(README, "nodes: kubectl")
    commands = block.commands.splitlines()
    assert len(commands) == 5
    assert set(commands) <= tested


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.client)
def test_a_snippet_for_a_client_is_one_that_mcpproxy_reads(
    snippet: ClientSnippet, tmp_path: Path
) -> None:
    if snippet.language == "sh":
        assert URL in snippet.text.split()
        return
    path = tmp_path / f"config.{snippet.language}"
    path.write_text(snippet.text)
    assert list(find_servers(read_file(path).content).enabled()) == ["tools"]


def test_nine_clients_are_described_and_some_are_shown_at_the_start() -> None:
    assert len(SNIPPETS) == 9
    assert set(SHOWN) < {snippet.client for snippet in SNIPPETS}
