"""Limits on the size of results: `backends[].results`."""
