"""Pure state of the runtime: names, catalog, sealed tokens, health. No I/O, no clock."""
