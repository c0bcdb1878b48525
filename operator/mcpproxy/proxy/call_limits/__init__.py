"""Limits on calls: `spec.limits`, counted by one instance or by all instances together."""
