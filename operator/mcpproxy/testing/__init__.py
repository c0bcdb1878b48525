"""Test doubles. Held to the real parts by shared contract tests; not in the images."""
