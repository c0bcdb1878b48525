"""The number of files and connections that the process may have open, for all programs."""

import resource

from mcpproxy.limits.http import DESCRIPTORS


def raise_limit() -> None:
    """Raise the limit of file descriptors to the hard limit, up to the project's own limit.

    Container runtimes start processes with 1024 descriptors and a far higher hard limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS.value if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS.value)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
