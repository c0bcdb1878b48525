"""The page of the admin port. It is imported when it is visited for the first time."""
