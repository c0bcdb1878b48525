"""An HTTP/1.1 client with one pool of connections for each origin."""
