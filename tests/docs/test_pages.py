"""Links and names in the documentation are valid."""

import re
from pathlib import Path
from typing import get_args

import pytest

from mcpproxy.api.v1alpha1.status import BackendState

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("**/*.md")])
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(`+)[^\n]+?\1")


def _anchors(page: Path) -> set[str]:
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_existing_pages(page: Path) -> None:
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    dead = []
    for link in _LINK.findall(_CODE.sub("", text)):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            dead.append(link)
    assert dead == []


def test_every_page_is_in_the_index() -> None:
    for index in (ROOT / "docs").glob("**/README.md"):
        text = index.read_text(encoding="utf-8")
        inner = {folder.parent for folder in index.parent.glob("*/README.md")}
        pages = {page.name for page in index.parent.glob("*.md")} - {"README.md"}
        pages |= {f"{folder.name}/README.md" for folder in inner}
        assert {page for page in pages if f"({page})" not in text} == set()


def test_each_statement_on_security_has_tests_and_each_such_test_a_statement() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    stated = set(re.findall(r"^\| S(\d+) \|", text, re.MULTILINE))
    tested = {
        mark
        for file in (ROOT / "tests").glob("**/*.py")
        for mark in re.findall(r"def test_s(\d+)_", file.read_text(encoding="utf-8"))
    }
    assert stated == tested


def test_names_in_the_architecture_page_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z0-9_]+(?:/[a-z0-9_.]*)+)`", text))
    assert len(named) > 30
    places = [ROOT, ROOT / "operator" / "mcpproxy", ROOT / "operator" / "mcpproxy" / "proxy"]
    missing = {name for name in named if not any((place / name).exists() for place in places)}
    assert missing == set()


def test_defaults_in_the_concepts_are_those_of_the_code() -> None:
    from mcpproxy.api import defaults

    text = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    ttl, interval = defaults.CACHE_TTL[:-1], defaults.HEALTH_INTERVAL[:-1]
    for words in (
        f"`cache.ttl` ({ttl} s)",
        f"`health.interval` ({interval} s)",
        f"`unhealthyAfter` ({defaults.UNHEALTHY_AFTER})",
        f"`healthyAfter` ({defaults.HEALTHY_AFTER})",
        f"`{defaults.SESSION_MODE}`, the default",
    ):
        assert words in text
    states = set(re.findall(r"^\| `(\w+)` \| .*$", text, re.MULTILINE))
    assert set(get_args(BackendState)) <= states
