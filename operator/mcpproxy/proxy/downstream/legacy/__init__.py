"""Clients of the legacy era: sessions, their streams, and resumption."""
