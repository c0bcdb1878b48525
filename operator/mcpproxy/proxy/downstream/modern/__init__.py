"""Clients of the modern era: requests that stand alone, and `input_required`."""
