"""Generation of docs/llms.txt, the list of pages for agents (llmstxt.org), from docs/README.md.

python -m scripts.llms            writes the file
python -m scripts.llms --check    exits with 1 if the file is outdated
"""

import re
import sys
from typing import Final

from scripts.docs_index import DOCS, sections
from scripts.generated import write_or_compare

FILE: Final = DOCS / "llms.txt"


def render() -> str:
    """Return the file: the project's summary, and the title, address and text of each page."""
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    title, summary = readme.split("\n\n")[:2]
    plain = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", " ".join(summary.split()))
    lines = [title, "", f"> {plain}", ""]
    for name, pages in sections():
        lines += [f"## {name}", ""]
        lines += [f"- [{page.title}]({page.path}): {page.text}" for page in pages]
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    """Write or compare the file."""
    return write_or_compare(FILE, render(), "docs/llms.txt differs from docs/README.md")


if __name__ == "__main__":
    sys.exit(main())
