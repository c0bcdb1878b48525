"""`python -m mcpproxy`: the command line without the console script."""

import sys

from mcpproxy.cli import main

sys.exit(main())
