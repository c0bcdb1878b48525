"""Work that one instance of a proxy does for all others, such as watching a backend."""
