"""Other instances of the same proxy: requests are forwarded to the instance that has the state."""
