"""Commands about files alone, without a network: `mcpproxy validate` and `mcpproxy convert`.

`conversion`, `secret_values` and `images` are pure.
"""
