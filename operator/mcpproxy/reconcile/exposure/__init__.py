"""Routes to an MCPProxy: their state as Gateways report it, and other routes in their way."""
