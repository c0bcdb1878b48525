"""Issuers of tokens over HTTP: their documents and their metadata. Knows neither clients nor
backends."""
