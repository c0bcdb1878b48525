"""Models of the parts of the spec that say where clients reach the proxy."""
