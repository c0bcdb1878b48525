"""A small resource server that passes all checks, and its mutants, which the checks detect.

Each rule of it has a name and can be broken (`Rules`); a rule that is broken in a way of its own
says how in the code. It uses another implementation of JWS than the kit.
"""
