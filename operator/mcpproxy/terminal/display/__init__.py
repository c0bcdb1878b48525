"""The display of `mcpproxy run` at a terminal.

Only `run_view` imports the library that draws. Pods never import it.
"""
