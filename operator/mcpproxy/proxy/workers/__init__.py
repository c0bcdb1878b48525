"""Several worker processes that share one port.

A supervisor starts them, checks them, restarts them, and serves the admin port for all. Any worker
serves any request; state of one worker is reached at a port of its own.
"""
