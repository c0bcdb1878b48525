"""Identification of the senders of requests: by their credentials, or by a gateway in front."""
