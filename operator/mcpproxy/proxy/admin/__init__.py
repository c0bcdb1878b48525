"""Admin port: probes, metrics and the report of this process. Never part of the Service."""
