"""Components as Python programs see them. Sends nothing itself."""
