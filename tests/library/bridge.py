"""A program as users write it: a proxy of whatever its argument names, on standard streams."""

import sys

from mcpproxy import create_proxy

proxy = create_proxy(sys.argv[1], name="bridge")

if __name__ == "__main__":
    proxy.run()
