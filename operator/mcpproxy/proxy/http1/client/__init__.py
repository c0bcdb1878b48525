"""An HTTP/1.1 client: one pool of connections for each backend."""
