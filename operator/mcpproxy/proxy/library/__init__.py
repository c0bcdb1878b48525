"""The library: proxies in Python programs, with the parts that the runtime is made of.

Reading order: `create` (what a proxy can be made from), `server` (what it can do), `sources`
(targets → backends), `client` and `sharing` (which sessions are fresh, which are reused).
"""
