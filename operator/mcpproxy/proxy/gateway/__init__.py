"""All backends of one proxy as one server. Independent of transports."""
