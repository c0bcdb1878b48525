"""Limits on backends: connections to them, their messages, lists, requests and sessions."""
