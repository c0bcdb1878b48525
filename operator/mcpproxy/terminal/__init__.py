"""Commands with which a person sees and calls what a server offers: `mcpproxy list`, `call`.

They are clients, built on the official SDK. They know nothing of the runtime's insides.
"""
