"""Components as Python programs see them. Must not send anything itself."""
