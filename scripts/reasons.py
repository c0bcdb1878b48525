"""Explanations of reasons for the pages, generated from docs/troubleshooting.md.

python -m scripts.reasons [--check]
"""

import json
import re
import sys
from typing import Final

from scripts.generated import write_or_compare
from scripts.machine import ROOT

PAGE: Final = ROOT / "docs" / "troubleshooting.md"
TEXTS: Final = ROOT / "operator" / "mcpproxy" / "pages" / "static" / "reasons.json"
_SECTION: Final = re.compile(r"^### (\w+)\n(.*?)(?=^##|\Z)", re.M | re.S)
_LINK: Final = re.compile(r"\[([^\]]+)\]\([^)]+\)")
_CODE: Final = re.compile(r"^```\w*\n(.*?)^```$", re.M | re.S)


def render(page: str) -> str:
    """Return the paragraphs of each reason as JSON, as texts without markup."""
    sections = {reason: _paragraphs(text) for reason, text in _SECTION.findall(page)}
    return json.dumps(sections, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def _paragraphs(text: str) -> list[str]:
    # Code keeps its line breaks, in one paragraph.
    text = _CODE.sub(lambda code: code[1].replace("\n\n", "\n"), text)
    paragraphs = []
    for block in re.split(r"\n\n+", text.strip()):
        for part in re.split(r"\n(?=- )", block):
            plain = _LINK.sub(r"\1", part).replace("`", "").replace("**", "")
            paragraphs.append(plain if plain.startswith("kubectl") else " ".join(plain.split()))
    return paragraphs


def main() -> int:
    """Write the texts, or compare them."""
    wanted = render(PAGE.read_text(encoding="utf-8"))
    return write_or_compare(TEXTS, wanted, "reasons.json is not that of docs/troubleshooting.md")


if __name__ == "__main__":
    sys.exit(main())
