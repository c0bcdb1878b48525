"""`mcpproxy plan`: shows the components that a manifest would serve, before it is applied.

`manifests` reads the input, `collect` asks the backends, `saved_lists` keeps their answers in
files, `document` builds the plan and its differences, `render` prints it. The runtime does not
import it.
"""
