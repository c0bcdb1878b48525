"""Upstream sessions over gateways and SDK clients of the same process."""
