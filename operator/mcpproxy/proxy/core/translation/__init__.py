"""Translation of messages between names, URIs and protocol eras. No I/O, no clock."""
