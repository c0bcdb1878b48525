"""Clients of the modern era: independent requests, and `input_required`."""
