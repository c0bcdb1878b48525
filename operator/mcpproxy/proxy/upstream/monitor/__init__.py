"""Health checks and list refreshes of one backend, independent of calls."""
