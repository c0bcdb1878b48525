"""Components in Python programs. Must not send anything itself."""
