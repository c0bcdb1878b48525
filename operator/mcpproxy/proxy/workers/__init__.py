"""Several worker processes that share one port: channel, worker, member, crew.

A parent process starts them, watches them, starts them again, and serves the admin port for all.
Any worker serves any request; what lives in one of them is reached at a port of its own.
"""
