"""Revisions of MCP and their two eras."""

from typing import Final

LEGACY: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Revisions with initialize and sessions, oldest first."""
MODERN: Final = ("2026-07-28",)
"""Revisions without sessions, in which every request is independent."""
LATEST_LEGACY: Final = LEGACY[-1]
LATEST_MODERN: Final = MODERN[-1]
ALL: Final = (*LEGACY, *MODERN)

META_PREFIX: Final = "io.modelcontextprotocol/"
META_VERSION: Final = META_PREFIX + "protocolVersion"
META_CAPABILITIES: Final = META_PREFIX + "clientCapabilities"
META_CLIENT_INFO: Final = META_PREFIX + "clientInfo"
META_SERVER_INFO: Final = META_PREFIX + "serverInfo"
META_LOG_LEVEL: Final = META_PREFIX + "logLevel"
META_SUBSCRIPTION: Final = META_PREFIX + "subscriptionId"


def negotiate_revision(requested: str) -> str:
    """Return the legacy revision to negotiate: the requested one if it is supported."""
    return requested if requested in LEGACY else LATEST_LEGACY


def is_modern(revision: str) -> bool:
    """Return True if a revision belongs to the modern era."""
    return revision in MODERN
