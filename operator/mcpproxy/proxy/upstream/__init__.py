"""The backend-facing side: sessions, transports, health and lists of each backend.

Knows nothing of how clients are connected.
"""
