"""Negotiation of the transport, the era and the revision of a new session."""
