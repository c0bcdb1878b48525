"""An HTTP/1.1 server with limits on everything that a client can send."""
