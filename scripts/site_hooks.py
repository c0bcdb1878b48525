"""Hooks of MkDocs: navigation from docs/README.md, and links that lead out of docs/.

They run in the environment of MkDocs, which has none of the project's packages.
"""

import os
import posixpath
import re
import shutil
import sys
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, os.fspath(Path(__file__).parent.parent))
from scripts.docs_index import DOCS, sections

_LINK: Final = re.compile(r"(?<!!)\[(?P<text>(?:[^\]\[]|\[[^\]]*\])*)\]\((?P<path>[^)\s:]+)\)")
_CODE: Final = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.MULTILINE | re.DOTALL)


def on_config(config: Any) -> Any:
    """Set the navigation."""
    config["nav"] = [
        {"Overview": "README.md"},
        *({title: [page.path for page in pages]} for title, pages in sections()),
    ]
    return config


def on_page_markdown(markdown: str, page: Any, **others: Any) -> str:
    """Adapt the links of a page that lead out of docs/."""
    parts = _CODE.split(markdown)
    for index in range(0, len(parts), 2):
        parts[index] = _LINK.sub(lambda match: _adapted(match, page.file.src_uri), parts[index])
    return "".join(parts)


def _adapted(link: re.Match[str], page: str) -> str:
    """Return a link to the repository, or its text if the repository has no address."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link["path"]))
    if link["path"].startswith("#") or path.startswith("docs/"):
        return link[0]
    source = os.environ.get("SOURCE_URL", "").rstrip("/")
    return f"[{link['text']}]({source}/blob/main/{path})" if source else link["text"]


def on_post_build(config: Any) -> None:
    """Copy the pages as Markdown, which llms.txt names."""
    for path in DOCS.rglob("*.md"):
        target = Path(config["site_dir"]) / path.relative_to(DOCS)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
