"""HTML pages of the runtime and of the operator: markup, security headers, style and script.

The package needs the standard library alone and is imported when a browser visits a page. It knows
neither the runtime nor the operator.
"""
