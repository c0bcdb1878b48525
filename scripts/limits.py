"""The table of docs/security.md, generated from mcpproxy.limits.

python -m scripts.limits [--check]
"""

import sys
from collections.abc import Iterable
from typing import Final

from mcpproxy.limits import table
from mcpproxy.limits.limit import Limit
from scripts.generated import between, write_or_compare
from scripts.machine import ROOT

PAGE: Final = ROOT / "docs" / "security.md"
BEGIN: Final = "<!-- from mcpproxy.limits, by make reference -->\n"
END: Final = "<!-- end of the limits -->\n"
_PEERS: Final = (
    ("Clients", table.CLIENTS),
    ("Backends", table.BACKENDS),
    ("Other instances and workers of the proxy", table.INSTANCES),
    ("Pods, as watched by the operator", table.PODS),
)
_BYTES: Final = ((2**20, "MiB"), (2**10, "KiB"))


def amount(limit: Limit) -> str:
    """Return the value of a limit with its unit, such as `16 MiB`."""
    if limit.unit == "count":
        return f"{limit.value:,}"
    if limit.unit == "seconds":
        return f"{limit.value} s"
    if limit.unit.startswith("bytes"):
        per = limit.unit.removeprefix("bytes")
        for size, name in _BYTES:
            if limit.value >= size and limit.value % size == 0:
                return f"{limit.value // size} {name}{per}"
    return f"{limit.value:,} {limit.unit}"


def section(peer: str, limits: Iterable[Limit]) -> str:
    """Return the table of the limits on one kind of peer."""
    rows = "".join(
        f"| `{limit.name}` | {amount(limit)} | {limit.counts} | {limit.share} | {limit.beyond} |\n"
        for limit in limits
    )
    head = "| Limit | Value | Counts | For each | Beyond it |\n|---|---|---|---|---|\n"
    return f"\n### {peer}\n\n{head}{rows}"


def render(page: str) -> str:
    """Return the page with the current tables of the limits."""
    tables = "".join(section(peer, limits) for peer, limits in _PEERS)
    return between(page, BEGIN, END, f"{tables}\n")


def main() -> int:
    """Write the tables, or compare them."""
    wanted = render(PAGE.read_text(encoding="utf-8"))
    difference = "the limits in docs/security.md are not those of mcpproxy.limits"
    return write_or_compare(PAGE, wanted, difference)


if __name__ == "__main__":
    sys.exit(main())
