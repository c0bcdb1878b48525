"""Commands for people: `mcpproxy list`, `mcpproxy call`, `mcpproxy open`.

They are clients, built on the official SDK. They know nothing of the runtime's insides.
"""
