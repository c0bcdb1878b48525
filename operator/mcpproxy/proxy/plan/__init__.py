"""`mcpproxy plan`: what a manifest would serve, before anything is applied.

manifests (what is planned), gather (asks the backends), saved (their answers in files), document
(the plan and what differs, pure), text (the plan for people, pure), command.
"""
