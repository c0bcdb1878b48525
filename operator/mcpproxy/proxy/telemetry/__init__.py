"""Metrics and traces of one process."""
