"""The file with the tokens of a sign-in, which only its user may read.

Its content is as hostile as what a backend sends: the file is read only if nobody else could have
written it, and the SDK's models validate the content.
"""

import contextlib
import hashlib
import json
import logging
import os
import stat
import tempfile
from pathlib import Path
from typing import Any, Final

from mcpproxy.limits.tokens import SIGN_IN_FILE

log = logging.getLogger("mcpproxy.backend")
_OTHERS: Final = 0o077
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class SignInFile:
    """Tokens for one backend, as one client of its authorization server."""

    def __init__(self, directory: Path, backend: str, url: str, client_id: str) -> None:
        key = json.dumps([url, client_id]).encode()
        self._backend = backend
        self._url = url
        self.path = directory / f"{hashlib.sha256(key).hexdigest()[:32]}.json"

    def read(self) -> dict[str, Any]:
        """Return the content; empty without a file that can be used."""
        try:
            content = json.loads(self._bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            reason = getattr(error, "strerror", None) or error
            log.warning(
                "backend %s: %s is not used: %s; sign in again, or delete the file",
                *(self._backend, self.path, reason),
            )
            return {}
        is_ours = isinstance(content, dict) and content.get("url") == self._url
        return content if is_ours else {}

    def _bytes(self) -> bytes:
        """Return the bytes of the file. Raise OSError or ValueError."""
        with open(os.open(self.path, _FLAGS), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("not a regular file")
            if status.st_uid != os.geteuid() or status.st_mode & _OTHERS:
                raise ValueError("other users can access it; its mode must be 0600")
            data = file.read(SIGN_IN_FILE.value + 1)
        if len(data) > SIGN_IN_FILE.value:
            SIGN_IN_FILE.record()
            raise ValueError(f"the file has more than {SIGN_IN_FILE.value} bytes")
        return data

    def write(self, content: dict[str, Any]) -> None:
        """Replace the content; a failure is logged, because the tokens can be used nevertheless."""
        directory = self.path.parent
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=directory)
            try:
                with open(descriptor, "w", encoding="utf-8") as file:
                    json.dump({"url": self._url, **content}, file)
                os.replace(name, self.path)
            except OSError:
                os.unlink(name)
                raise
        except OSError as error:
            log.warning(
                "backend %s: the tokens are not stored, so the user signs in again after a"
                " restart: %s: %s",
                *(self._backend, self.path, error.strerror or error),
            )

    def delete(self) -> None:
        """Forget the tokens."""
        with contextlib.suppress(OSError):
            self.path.unlink()
