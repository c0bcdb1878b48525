"""The part of a backend's monitor that one instance of the proxy may do for all others."""
