"""Write the status of an MCPProxy and its Events, when they change.

Knows nothing of plans: it reads a snapshot and the reports of pods, and changes no child.
"""
