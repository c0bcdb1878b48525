"""Child processes of stdio backends, which never outlive the proxy."""
