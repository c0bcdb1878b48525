"""One pass over one MCPProxy: snapshot, plan, apply, status. `reconciler` is the main path.

Knows neither Kopf nor the work queue.
"""
