"""All backends of one proxy as one server. Knows no transport."""
