"""docs/expose.md: its MCPProxies are valid, and the paths that it names are those of the routes."""

import re
from pathlib import Path

from mcpproxy import desired
from mcpproxy.api import manifest
from scripts.yaml_files import parse_yaml
from tests.support.builders import OPTIONS, OWNER, an_mcpproxy

TEXT = (Path(__file__).parents[2] / "docs" / "expose.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^( *)```yaml\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def documents() -> list[dict[str, object]]:
    """The YAML of the page."""
    return [parse_yaml(block) for _, block in _BLOCK.findall(TEXT)]


def test_every_mcpproxy_of_the_page_is_valid_and_is_exposed() -> None:
    proxies = [
        manifest.parse(document) for document in documents() if document.get("kind") == "MCPProxy"
    ]
    kinds = [desired.build(proxy, OPTIONS, OWNER)[-1]["kind"] for proxy in proxies]
    assert kinds == ["HTTPRoute", "Ingress"]


def test_fragments_of_the_page_are_valid_together_with_exposure() -> None:
    fragments = [document["spec"] for document in documents() if set(document) == {"spec"}]
    assert len(fragments) == 2
    expose: dict[str, dict[str, str]] = {"ingress": {}}
    url = "https://mcp.example.com/tools"
    for fragment in fragments:
        assert isinstance(fragment, dict)
        assert an_mcpproxy(publicUrl=url, expose=expose, **fragment).spec.expose is not None


def test_the_paths_of_the_page_are_those_of_the_route() -> None:
    proxy = an_mcpproxy(publicUrl="https://mcp.example.com/tools", expose={"ingress": {}})
    ingress = desired.build(proxy, OPTIONS, OWNER)[-1]
    paths = [path["path"] for path in ingress["spec"]["rules"][0]["http"]["paths"]]
    table = TEXT.partition("| Path | Use |")[2].partition("\n\n")[0]
    shown = re.findall(r"`(/[^`]*)`", "".join(row.split("|")[1] for row in table.splitlines()[2:]))
    assert shown == paths
