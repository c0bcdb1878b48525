"""`kubectl mcpproxy`: a plugin of kubectl, which uses the reader's own kubectl and permissions.

`status_text` and `redaction` are pure.
"""
