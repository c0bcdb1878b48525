"""Upstream sessions over gateways and SDK clients in the same process."""
