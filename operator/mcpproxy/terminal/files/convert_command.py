"""`mcpproxy convert`: make a manifest of the configuration of an MCP client."""

import argparse
import os
import re
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import yaml

from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.proxy import process
from mcpproxy.proxy.config.options import parse_name
from mcpproxy.proxy.config.targets import is_manifest
from mcpproxy.terminal.files.conversion import NAME, Conversion, convert_file

PLACEHOLDER: Final = "REPLACE_ME"
"""Value of each entry of the Secret, which its owner replaces."""
MAX_COMMENT: Final = 300


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `mcpproxy convert`."""
    add = parser.add_argument
    add(
        "file",
        type=Path,
        metavar="FILE",
        help="configuration of Claude, Cursor, VS Code, Windsurf, Zed, Gemini, Codex, opencode or"
        " another MCP client, in JSON or TOML",
    )
    add("--name", type=parse_name, default=NAME, help="name of the MCPProxy (%(default)s)")
    add("-n", "--namespace", type=parse_name, metavar="NS", help="namespace of the MCPProxy")
    add(
        "--image",
        type=_image,
        metavar="IMAGE",
        help="spec.image of the MCPProxy, which contains the programs of its stdio servers",
    )
    add("-o", "--output", metavar="FILE", help="file to write; an existing one is not replaced")


def _image(text: str) -> str:
    """Return the name of an image. Raise argparse.ArgumentTypeError."""
    if re.fullmatch(r"[!-~]{1,1024}", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of an image")
    return text


def main(args: argparse.Namespace) -> int:
    """Print the manifest. Return 0, or 1 if the file cannot be converted."""
    process.log_to_stderr("warning")
    try:
        if args.file.suffix == ".json" and is_manifest(args.file):
            raise ManifestError(f"{args.file} is a manifest already; use mcpproxy validate or plan")
        conversion = convert_file(
            args.file, args.name, args.namespace, version("mcpproxy-operator"), args.image
        )
        text = render_conversion(conversion, args.file.name)
        if args.output is None:
            sys.stdout.write(text)
        else:
            _write_new(args.output, text)
    except BrokenPipeError:
        # `cli` ends the command as a shell expects.
        raise
    except (ManifestError, ValueError, OSError) as error:
        process.report_failure("mcpproxy convert", error)
        return 1
    for note in _next_steps(conversion, args.output):
        process.report_error(clean_text(note, MAX_COMMENT))
    return 0


def _write_new(path: str, text: str) -> None:
    """Write a file that must not exist, not even as a symbolic link. Raise ManifestError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}; choose another file", "-o") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _next_steps(conversion: Conversion, output: str | None) -> Iterator[str]:
    if conversion.secrets:
        yield f"Replace {PLACEHOLDER} in the Secret {conversion.secret_name} before you apply it."
    unfinished = conversion.notes and conversion.proxy.spec.image is None
    if unfinished:
        yield "Stdio servers cannot start in the default image; the comments say what they need."
    elif conversion.notes:
        yield "The comments of the manifest say what its image must contain."
    if output is not None:
        edit = "edit the manifest as its comments say, then " if unfinished else ""
        yield f"Next: {edit}mcpproxy validate {output}, then kubectl apply -f {output}"


def render_conversion(conversion: Conversion, source: str) -> str:
    """Return the YAML text of a conversion: the Secret, if there is one, and the MCPProxy."""
    return "---\n".join(_documents(conversion, source))


def _documents(conversion: Conversion, source: str) -> Iterator[str]:
    metadata = conversion.manifest["metadata"]
    if conversion.secrets:
        yield "".join(_secret(conversion, metadata))
    comments = [f"Made of {source} by mcpproxy convert.", *conversion.notes]
    yield "".join(f"# {clean_text(line, MAX_COMMENT)}\n" for line in comments) + _yaml(
        conversion.manifest
    )


def _secret(conversion: Conversion, metadata: dict[str, Any]) -> Iterator[str]:
    yield f"# Replace {PLACEHOLDER}. Keep this Secret out of Git, or let a tool such as External\n"
    yield "# Secrets or Sealed Secrets create it.\n"
    yield _yaml(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {**metadata, "name": conversion.secret_name},
            "type": "Opaque",
        }
    )
    yield "stringData:\n"
    for entry in conversion.secrets:
        yield f"  # {clean_text(entry.origin, MAX_COMMENT)}\n"
        yield f"  {entry.key}: {PLACEHOLDER}\n"


def _yaml(content: Any) -> str:
    # Escapes of other characters than ASCII keep the text from controlling a terminal.
    text: str = yaml.safe_dump(content, sort_keys=False, width=100)
    return text
