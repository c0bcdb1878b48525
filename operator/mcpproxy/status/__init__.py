"""The status of an MCPProxy, computed from one snapshot. Pure: no clock, no I/O."""
