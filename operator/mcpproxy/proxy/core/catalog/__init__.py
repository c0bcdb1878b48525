"""The components of all backends and the lists that clients get of them. No I/O, no clock."""
