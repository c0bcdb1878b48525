"""Sealed tokens that carry state through clients. No I/O, no clock."""
