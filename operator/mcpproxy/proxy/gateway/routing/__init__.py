"""Routes of requests, and the messages on them; clients and their connections are unknown here."""
