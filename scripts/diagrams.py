"""Drawing of the diagrams in docs/diagrams.md: sequences, as SVG.

python -m scripts.diagrams            writes docs/images/diagram-*.svg
python -m scripts.diagrams --check    exits with 1 if one is outdated
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from scripts.diagram_texts import DIAGRAMS, Diagram, Message, Note
from scripts.docs_index import DOCS
from scripts.generated import write_or_compare

LANE: Final = 190
"""Distance between the centers of two participants."""
BOX: Final = 160
TOP: Final = 20
HEAD: Final = 46
STEP: Final = 46
MARGIN: Final = 95
SELF: Final = 40
LETTER: Final = 6.3
"""Mean width of a character of notes and messages."""
STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#1b2430;text-anchor:middle}"
    ".name{font-weight:600;font-size:13px}.about{fill:#51606f;font-size:11px}"
    ".box{fill:#eef3f9;stroke:#3b6ea5}.note{fill:#fff6d6;stroke:#c9a227}"
    ".life{stroke:#9fb0c2;stroke-dasharray:4 4}.line{stroke:#24476b;fill:none;stroke-width:1.4}"
    ".back{stroke-dasharray:6 4}"
)


SPACE: Final = 'xmlns="http://www.w3.org/2000/svg"'
TIP: Final = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"'
    ' orient="auto"><path d="M0 0L8 4L0 8z" fill="#24476b"/></marker></defs>'
)


@dataclass
class Canvas:
    """Elements of one picture, from top to bottom."""

    names: Sequence[str]
    y: int

    def x(self, name: str) -> int:
        """Return the center of a participant."""
        return MARGIN + self.names.index(name) * LANE

    def message(self, message: Message) -> Iterator[str]:
        """Draw an arrow with its text above it."""
        start, end = self.x(message.source), self.x(message.target)
        kind = "line back" if message.back else "line"
        self.y += STEP
        if start == end:
            path = f"M{start} {self.y - 14}h{SELF}v18h-{SELF - 4}"
            yield f'<path class="{kind}" d="{path}" marker-end="url(#tip)"/>'
            x = start + SELF + 8
            text = escape(message.text)
            yield f'<text x="{x}" y="{self.y - 2}" style="text-anchor:start">{text}</text>'
            return
        tip = end - 4 if end > start else end + 4
        yield f'<path class="{kind}" d="M{start} {self.y}H{tip}" marker-end="url(#tip)"/>'
        yield f'<text x="{(start + end) // 2}" y="{self.y - 7}">{escape(message.text)}</text>'

    def note(self, note: Note) -> Iterator[str]:
        """Draw a box with text over its participants."""
        first, last = self.x(note.over[0]), self.x(note.over[-1])
        wide = max(last - first + BOX, int(len(note.text) * LETTER) + 24)
        self.y += STEP
        left = max(4, (first + last - wide) // 2)
        yield f'<rect class="note" x="{left}" y="{self.y - 20}" width="{wide}" height="28" rx="4"/>'
        yield f'<text x="{left + wide // 2}" y="{self.y - 2}">{escape(note.text)}</text>'


def svg(diagram: Diagram) -> str:
    """Return the picture of a diagram."""
    names = [participant.name for participant in diagram.participants]
    canvas = Canvas(names, TOP + HEAD)
    drawn = [
        line
        for step in diagram.steps
        for line in (canvas.message(step) if isinstance(step, Message) else canvas.note(step))
    ]
    height, width = canvas.y + 34, 2 * MARGIN + (len(names) - 1) * LANE
    heads = [line for part in diagram.participants for line in _head(canvas, part.name, part.about)]
    lives = [
        f'<path class="life" d="M{canvas.x(name)} {TOP + HEAD}V{height - 12}"/>' for name in names
    ]
    size = f'width="{width}" height="{height}"'
    return "\n".join(
        [
            f'<svg {SPACE} viewBox="0 0 {width} {height}" {size} role="img">',
            f"<title>{escape(diagram.title)}</title><desc>{escape(diagram.text)}</desc>",
            f"<style>{STYLE}</style>",
            TIP,
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
            *lives,
            *heads,
            *drawn,
            "</svg>\n",
        ]
    )


def _head(canvas: Canvas, name: str, about: str) -> Iterator[str]:
    x = canvas.x(name)
    yield f'<rect class="box" x="{x - BOX // 2}" y="{TOP}" width="{BOX}" height="{HEAD}" rx="6"/>'
    yield f'<text class="name" x="{x}" y="{TOP + 19}">{escape(name)}</text>'
    yield f'<text class="about" x="{x}" y="{TOP + 36}">{escape(about)}</text>'


def main() -> int:
    """Write or compare the pictures."""
    return max(
        write_or_compare(
            DOCS / "images" / f"diagram-{name}.svg",
            svg(diagram),
            f"docs/images/diagram-{name}.svg differs from scripts/diagram_texts.py",
        )
        for name, diagram in DIAGRAMS.items()
    )


if __name__ == "__main__":
    sys.exit(main())
