"""The backends to which the user of `mcpproxy run` signs in."""

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from mcpproxy.api.constants import LOOPBACK_HOSTS
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.proxy.config.proxy_config import ProxyConfig
from mcpproxy.proxy.upstream.sign_in.settings import SignIn

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import BackendSpec

WHEN: Final = ("auto", "all", "new", "none")
_REASON: Final = (
    "every client of this proxy would act with the account of the one user who signs in"
)
_REMEDY: Final = (
    "for several users, give the backend auth.clientCredentials or auth.tokenExchange in a manifest"
)
When = Literal["auto", "all", "new", "none"]


def choose_sign_ins(
    configuration: ProxyConfig, args: argparse.Namespace, *, is_person: bool, is_http: bool
) -> ProxyConfig:
    """Return the configuration with the sign-ins that a command line wants.

    `is_person` says that a person is at the terminal. Raise ManifestError if several users may
    reach the proxy.
    """
    when: When = args.sign_in
    wanted = {} if when == "none" else dict(configuration.sign_ins)
    several = _several_users(configuration, args, is_http=is_http)
    if when in ("all", "new") or (when == "auto" and is_person and several is None):
        open_specs = (
            spec for spec in configuration.proxy.spec.backends if _has_no_credentials(spec)
        )
        wanted = {spec.name: SignIn() for spec in open_specs} | wanted
    if wanted and several is not None:
        field = "auth" if when == "auto" else f"--sign-in {when}"
        raise ManifestError(
            f"{field}: no sign-in to {', '.join(sorted(wanted))} with {several}: {_REASON};"
            f" {_REMEDY}, or remove {several}, or add --sign-in none"
        )
    if when == "new":
        wanted = {name: replace(sign_in, again=True) for name, sign_in in wanted.items()}
    return replace(configuration, sign_ins=wanted)


def _several_users(
    configuration: ProxyConfig, args: argparse.Namespace, *, is_http: bool
) -> str | None:
    """Return what lets several users, or several processes, use the proxy; None if nothing does."""
    spec = configuration.proxy.spec
    facts = {
        f"--host {args.host}": is_http and args.host not in LOOPBACK_HOSTS,
        "publicUrl": spec.public_url is not None,
        "authentication": spec.authentication is not None,
        "principalFrom": spec.principal_from is not None or args.principal_from is not None,
        "--instances": bool(args.instances),
        f"--workers {args.workers}": args.workers > 1,
    }
    return next((name for name, is_given in facts.items() if is_given), None)


def _has_no_credentials(spec: "BackendSpec") -> bool:
    """True for a server at a URL that gets no Authorization."""
    names = {header.name.lower() for header in spec.headers or ()}
    names |= {name.lower() for name in spec.forward_headers or ()}
    return spec.url is not None and spec.auth is None and "authorization" not in names
