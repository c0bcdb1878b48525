"""Refusal of calls to a backend that can't be reached. Must not know calls, sessions or I/O."""
