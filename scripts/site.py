"""The documentation as a site: `python -m scripts.site`, which writes dist/site.

MkDocs runs in an environment of its own, .venv-docs, with locked requirements. Links that do not
resolve are errors, as is anything that a browser would load from another host.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from scripts.machine import ROOT

HOME: Final = ROOT / ".venv-docs"
LOCKED: Final = ROOT / "requirements" / "docs.txt"
SITE: Final = ROOT / "dist" / "site"
_LOADED: Final = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*?\bsrc=\"?(?P<src>(?:https?:)?//[^\">\s]+)"
    r"|<link\b(?![^>]*\brel=\"?(?:canonical|prev|next))[^>]*?\bhref=\"?(?P<href>(?:https?:)?//[^\">\s]+)"
)


def install() -> None:
    """Install the locked requirements, unless they are already installed.

    Raise subprocess.CalledProcessError.
    """
    done = HOME / ".installed"
    if done.exists() and done.read_bytes() == LOCKED.read_bytes():
        return
    _run(sys.executable, "-m", "venv", "--without-pip", "--clear", str(HOME))
    options = ["--quiet", "--no-deps", "--require-hashes", "--requirement", str(LOCKED)]
    pip = [sys.executable, "-m", "pip", "--python", str(HOME / "bin" / "python")]
    _run(*pip, "install", *options)
    done.write_bytes(LOCKED.read_bytes())


def build() -> None:
    """Write the site. Raise subprocess.CalledProcessError."""
    # The variable turns off advertisements of other generators.
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    mkdocs = [str(HOME / "bin" / "python"), "-I", "-m", "mkdocs"]
    _run(*mkdocs, "build", "--strict", "--quiet", env=env)


def loaded_from_elsewhere(site: Path) -> Iterator[str]:
    """Yield the page and the address of everything that pages load from other hosts."""
    for page in sorted(site.rglob("*.html")):
        for match in _LOADED.finditer(page.read_text(encoding="utf-8")):
            yield f"{page.relative_to(site)}: {match['src'] or match['href']}"


def _run(*command: str, env: Mapping[str, str] | None = None) -> None:
    subprocess.run(command, cwd=ROOT, env=env, check=True, timeout=300)


def main() -> int:
    """Build the site, and return the exit code."""
    try:
        install()
        build()
    except subprocess.CalledProcessError as error:
        return error.returncode
    foreign = list(loaded_from_elsewhere(SITE))
    for line in foreign:
        sys.stderr.write(f"loaded from another host: {line}\n")
    pages = sum(1 for _ in SITE.rglob("*.html"))
    sys.stdout.write(f"{SITE.relative_to(ROOT)}: {pages} pages\n")
    return 1 if foreign else 0


if __name__ == "__main__":
    sys.exit(main())
