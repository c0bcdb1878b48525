"""The site of the documentation, the list of pages for agents, and the diagrams."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from scripts import diagrams, docs_index, llms, site, site_hooks
from scripts.diagram_texts import DIAGRAMS, Message


def test_the_index_has_every_page_once() -> None:
    listed = [page.path for _, pages in docs_index.sections() for page in pages]
    assert len(listed) == len(set(listed)) > 40
    folder = docs_index.DOCS
    assert {path.name for path in folder.glob("*.md")} - {"README.md"} <= set(listed)


def test_the_list_for_agents_names_every_page_with_its_title() -> None:
    text = llms.FILE.read_text(encoding="utf-8")
    assert text == llms.render()
    assert text.startswith("# MCPProxy")
    for _, pages in docs_index.sections():
        for page in pages:
            assert f"- [{docs_index.title_of(page.path)}]({page.path}): " in text


@pytest.mark.parametrize(
    ("markdown", "wanted"),
    [
        ("[a](../samples)", "[a](https://git.example.com/x/blob/main/samples)"),
        ("[a](concepts.md#names)", "[a](concepts.md#names)"),
        ("[a](#names)", "[a](#names)"),
        ("[a](https://example.com)", "[a](https://example.com)"),
        ("`[a](../samples)`", "`[a](../samples)`"),
        ("```\n[a](../samples)\n```", "```\n[a](../samples)\n```"),
    ],
)
def test_the_site_links_to_the_repository(
    markdown: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class _Page:
        class file:  # noqa: N801
            src_uri = "install.md"

    monkeypatch.setenv("SOURCE_URL", "https://git.example.com/x/")
    assert site_hooks.on_page_markdown(markdown, _Page) == wanted
    monkeypatch.delenv("SOURCE_URL")
    if "blob" in wanted:
        assert site_hooks.on_page_markdown(markdown, _Page) == "a"


@pytest.mark.parametrize(
    ("tag", "is_loaded"),
    [
        ('<script src="https://cdn.example.com/a.js"></script>', True),
        ('<link rel="stylesheet" href="//fonts.example.com/a.css">', True),
        ('<img src="https://example.com/a.png">', True),
        ('<script src="assets/a.js"></script>', False),
        ('<link rel="canonical" href="https://docs.example.com/">', False),
        ('<a href="https://example.com">a</a>', False),
    ],
)
def test_the_site_loads_nothing_from_other_hosts(tag: str, is_loaded: bool, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(tag)
    assert bool(list(site.loaded_from_elsewhere(tmp_path))) is is_loaded


@pytest.mark.parametrize("name", DIAGRAMS)
def test_a_diagram_is_current_complete_and_within_its_frame(name: str) -> None:
    diagram = DIAGRAMS[name]
    text = (docs_index.DOCS / "images" / f"diagram-{name}.svg").read_text(encoding="utf-8")
    assert text == diagrams.svg(diagram)
    root = ET.fromstring(text)
    width, height = (int(root.attrib[side]) for side in ("width", "height"))
    drawn = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert set(drawn) >= {step.text for step in diagram.steps}
    for element in root.iter("{http://www.w3.org/2000/svg}text"):
        x, y = int(element.attrib["x"]), int(element.attrib["y"])
        half = len(element.text or "") * diagrams.LETTER / 2
        begins = x if "start" in element.attrib.get("style", "") else x - half
        assert begins >= 0
        assert begins + 2 * half <= width
        assert y < height


def test_diagrams_name_places_of_the_code() -> None:
    source = docs_index.DOCS.parent / "operator" / "mcpproxy" / "proxy"
    places = [part.about for part in DIAGRAMS["call"].participants]
    named = [place for place in places if re.fullmatch(r"[a-z_]+(/|\.py)", place)]
    assert len(named) == 4
    for place in named:
        assert (source / place).exists()
    known = {part.name for diagram in DIAGRAMS.values() for part in diagram.participants}
    for diagram in DIAGRAMS.values():
        for step in diagram.steps:
            ends = [step.source, step.target] if isinstance(step, Message) else step.over
            assert set(ends) <= known
