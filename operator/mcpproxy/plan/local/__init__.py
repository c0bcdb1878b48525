"""Parts of commands that concern this machine: changes of a file, and remedies for its user."""
