"""Commands for a person: `run` at a terminal, `list`, `call`, `open`, `convert`, `validate`.

`list` and `call` are clients, built on the official SDK. `display`, `files` and `kubectl` are the
view of `run`, the commands about files, and the plugin of kubectl.
"""
