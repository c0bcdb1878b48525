"""Counting of calls by the instances of a proxy together, without a server."""
