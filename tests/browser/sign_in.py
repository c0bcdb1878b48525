"""A user in a headless Chromium who signs in at a page with the fields `username` and `password`.

`python -m tests.browser.sign_in URL` begins at URL. It prints the URL of the client to which the
user is sent back, which nobody needs to serve.
"""

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.browser.driver import Browser, driven

USER: Final = "SIGN_IN_USER"
PASSWORD: Final = "SIGN_IN_PASSWORD"
SECONDS: Final = 60.0
STEP: Final = 0.1
_FILL_IN: Final = """
    const [user, password] = arguments;
    const form = document.querySelector("input[name=password]")?.form;
    if (!form) return false;
    form.querySelector("[name=username]").value = user;
    form.querySelector("[name=password]").value = password;
    setTimeout(() => form.querySelector("[type=submit]").click());
    return true;
"""


class SignInFailed(Exception):
    """The user was not sent back to the client in time."""


async def sign_in(browser: Browser, url: str, user: str, password: str) -> str:
    """Fill in the page that a provider shows; return the URL of the client. Raise SignInFailed."""
    await browser.visit(url)
    provider = urlsplit(url).netloc
    deadline = time.monotonic() + SECONDS
    filled_in = False
    while time.monotonic() < deadline:
        shown = await browser.location()
        if urlsplit(shown).netloc != provider:
            return shown
        if not filled_in:
            filled_in = await browser.run(_FILL_IN, user, password) is True
        await asyncio.sleep(STEP)
    text = await browser.run("return document.body.innerText")
    raise SignInFailed(f"{await browser.location()} shows: {text}")


async def main(url: str) -> None:
    """Sign in with the user and the password in the environment."""
    with tempfile.TemporaryDirectory() as profile:
        async with driven(Path(profile), acceptInsecureCerts=True) as browser:
            user, password = os.environ[USER], os.environ[PASSWORD]
            sys.stdout.write(await sign_in(browser, url, user, password))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
