"""Authentication of clients: tokens, API keys, and the keys that verify them.

It knows nothing of MCP messages, sessions and policies. It is imported only if a spec has
`authentication`, because the cryptography takes memory.
"""
