"""The operator's process: Kopf's watches, the work queue, leader election, probes and metrics.

Nothing else imports Kopf. It decides when an MCPProxy is reconciled, never how.
"""
