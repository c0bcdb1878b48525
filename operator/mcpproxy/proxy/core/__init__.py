"""State and rules of the runtime: catalog, names, tokens, health. No I/O, no clock."""
