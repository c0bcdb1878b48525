"""Test doubles, which shared contract tests compare with the real parts; not in the images."""
