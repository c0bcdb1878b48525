"""Components of all backends and the lists that clients get. No I/O, no clock."""
