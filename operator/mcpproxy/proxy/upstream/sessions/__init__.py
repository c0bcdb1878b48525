"""Pools of upstream sessions: Isolated, PerClient and Reused."""
