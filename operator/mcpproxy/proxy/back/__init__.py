"""Backends: connections, eras, sessions, and what is known of each."""
