"""Worker processes that share one port.

A supervisor starts, monitors and restarts them, and serves the admin port for all. Any worker
serves any request. State of one worker is reachable at a separate port.
"""
