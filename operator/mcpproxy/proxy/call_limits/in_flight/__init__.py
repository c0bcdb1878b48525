"""Limits on concurrent calls: `inFlight`, counted by one instance or by all instances together."""
