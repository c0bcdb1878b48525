"""Notes in memory: a server on standard streams, with both protocol eras.

    python samples/servers/notes.py

Each process has its own notes, so clients see each other's notes only if they share a process.
"""

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError

server = MCPServer(
    "notes",
    version="1.0.0",
    instructions="Takes notes and finds them again.",
    log_level="WARNING",
)
notes = {
    "welcome": "Notes live as long as the session that took them.",
    "shopping": "bread, olives, coffee",
    "reading": "The Structure of Scientific Revolutions",
    "ideas": "One endpoint for every tool.",
}


@server.tool()
def add_note(title: str, text: str) -> str:
    """Add a note. A note with the same title is replaced."""
    notes[title] = text
    return f"noted: {title} ({len(notes)} notes)"


@server.tool()
def search_notes(text: str) -> list[str]:
    """Return the titles of the notes that contain a text."""
    wanted = text.lower()
    return [title for title, body in notes.items() if wanted in f"{title}\n{body}".lower()]


@server.prompt()
def summarize(title: str) -> str:
    """Summary of one note."""
    return f"Summarize this note in one sentence: {_note(title)}"


def _note(title: str) -> str:
    if title not in notes:
        raise ToolError(f"there is no note called {title}")
    return notes[title]


@server.resource("notes://by-title/{title}")
def note(title: str) -> str:
    """A note."""
    if title not in notes:
        raise ResourceNotFoundError(f"there is no note called {title}")
    return notes[title]


@server.resource("notes://by-title/{title}/words")
def words(title: str) -> str:
    """Number of words in a note."""
    return str(len(note(title).split()))


@server.resource("notes://titles")
def titles() -> str:
    """Titles of all notes, one per line."""
    return "\n".join(notes)


@server.resource("notes://first")
def first() -> str:
    """Oldest note."""
    return next(iter(notes.values()))


@server.resource("notes://last")
def last() -> str:
    """Newest note."""
    return list(notes.values())[-1]


@server.resource("notes://count")
def count() -> str:
    """Number of notes."""
    return str(len(notes))


if __name__ == "__main__":
    server.run("stdio")
