"""Sign-in of the user of this proxy to backends: authorization code with PKCE, by the SDK."""
