"""Conditions about clients: who they are, what they may do, how much, and where they connect."""
