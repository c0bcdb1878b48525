"""`mcpproxy plan`: shows the components that a manifest would serve, before it is applied.

`manifests` reads the input, `collect` queries the backends, `saved_lists` stores their lists in
files, `document` builds the plan and its differences, `render` prints it. The runtime must not
import this package.
"""
