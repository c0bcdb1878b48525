"""Counting of calls by a Valkey or Redis server."""
