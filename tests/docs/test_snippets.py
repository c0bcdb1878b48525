"""Files on pages of the documentation: manifests are valid, and mcpServers files are read."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mcpproxy.api.constants import API_VERSION, KIND
from mcpproxy.api.manifest import parse
from mcpproxy.proxy.config.mcp_json import find_servers
from mcpproxy.proxy.config.targets import from_mcp_servers
from mcpproxy.proxy.config.variables import prompt_of
from tests.docs.blocks import ROOT

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_BLOCK = re.compile(r"^( *)```(yaml|json)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_TASKS = ("recipes.md", "from-mcp-remote.md", "clients.md", "library.md")
"""Pages that show mcpServers files."""


def _snippets(language: str) -> Iterator[Any]:
    """The contents of all blocks of a language, each with its page and line."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in _BLOCK.finditer(text):
            if block[2] == language:
                line = text[: block.start()].count("\n") + 1
                yield pytest.param(block[3], id=f"{page.name}:{line}")


@pytest.mark.parametrize("text", list(_snippets("yaml")))
def test_an_mcpproxy_on_a_page_is_valid(text: str) -> None:
    for document in yaml.safe_load_all(text):
        if isinstance(document, dict) and document.get("kind") == KIND:
            assert document["apiVersion"] == API_VERSION
            parse(document)


@pytest.mark.parametrize("text", list(_snippets("json")))
def test_the_servers_of_a_file_on_a_page_can_be_served(
    text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in set(re.findall(r"\$\{(?:env:)?(\w+)[}:]", text)):
        if name not in ("input", "workspaceFolder"):
            monkeypatch.setenv(name, "value")
    for prompt in json.loads(text).get("inputs", []):
        monkeypatch.setenv(prompt_of(prompt["id"], {prompt["id"]: prompt}).variable, "value")
    content = json.loads(text)
    if any(key in content for key in ("mcpServers", "servers")):
        assert find_servers(content).enabled()
        assert from_mcp_servers(content).proxy.spec.backends


def test_pages_of_tasks_show_files() -> None:
    params = [*_snippets("yaml"), *_snippets("json")]
    shown = {str(param.id).partition(":")[0] for param in params}
    assert set(_TASKS) <= shown
