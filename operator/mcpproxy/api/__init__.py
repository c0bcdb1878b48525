"""The contract: what an MCPProxy says, and what is said about it. Both halves import it."""
