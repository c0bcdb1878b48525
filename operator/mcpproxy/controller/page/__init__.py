"""The operator's page with all MCPProxies. It is imported when it is visited for the first time.

It reads the objects that the watches delivered, and sends nothing to the API server.
"""
