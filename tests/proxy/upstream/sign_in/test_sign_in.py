"""The user of `mcpproxy run` signs in to a server."""

import json
import stat
import webbrowser
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from mcpproxy.proxy.core.errors import SignInNeeded, TokenUnavailable
from mcpproxy.proxy.upstream.sign_in import browser
from mcpproxy.proxy.upstream.sign_in.settings import SignIn
from tests.proxy.runtime.serving import serving
from tests.proxy.upstream.sign_in.signing import Authority, User, credentials, signed_in


@pytest_asyncio.fixture
async def authority() -> AsyncIterator[Authority]:
    """An authorization server, at work."""
    result = Authority()
    async with serving(result.app()) as base:
        result.base = base
        yield result


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> User:
    """The user at the browser."""
    result = User()
    monkeypatch.setattr(webbrowser, "open", result.open)
    return result


def _file(directory: Path) -> Path:
    (file,) = directory.iterdir()
    return file


async def test_a_refused_request_leads_to_a_sign_in_with_pkce(
    authority: Authority, user: User, tmp_path: Path
) -> None:
    source = credentials(authority.base, tmp_path)
    assert await source.obtain() is None, "a server that asks for no token gets none"
    assert not user.opened
    assert await signed_in(source) == b"Bearer access-token-1"
    (visit,), (form,) = authority.visits, authority.forms
    assert visit["code_challenge_method"] == "S256"
    assert urlsplit(visit["redirect_uri"]).hostname == "127.0.0.1"
    assert visit["resource"] == form["resource"] == f"{authority.base}/mcp"
    assert form["redirect_uri"] == visit["redirect_uri"]
    assert form["code_verifier"]
    assert source.header() == (b"authorization", b"Bearer access-token-1")
    await source.close()


async def test_tokens_survive_a_restart_in_a_file_of_their_user(
    authority: Authority, user: User, tmp_path: Path
) -> None:
    first = credentials(authority.base, tmp_path / "state")
    await signed_in(first)
    await first.close()
    file = _file(tmp_path / "state")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    second = credentials(authority.base, tmp_path / "state")
    assert await second.obtain() == (b"authorization", b"Bearer access-token-1")
    assert len(user.opened) == 1
    await second.close()


async def test_a_new_sign_in_forgets_the_tokens(
    authority: Authority, user: User, tmp_path: Path
) -> None:
    await signed_in(credentials(authority.base, tmp_path))
    source = credentials(authority.base, tmp_path, SignIn(again=True))
    assert await source.obtain() is None
    assert await signed_in(source) == b"Bearer access-token-2"
    assert len(user.opened) == 2


@pytest.mark.parametrize("fault", ["mode", "text", "size", "link", "url"])
async def test_a_file_that_others_may_have_written_is_not_used(
    authority: Authority,
    user: User,
    tmp_path: Path,
    fault: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await signed_in(credentials(authority.base, tmp_path))
    file = _file(tmp_path)
    if fault == "mode":
        file.chmod(0o644)
    elif fault == "text":
        file.write_text("{" * 100_000)
    elif fault == "size":
        file.write_text(json.dumps({**json.loads(file.read_text()), "x": "x" * 300_000}))
    elif fault == "link":
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    else:
        file.write_text(file.read_text().replace("/mcp", "/other"))
    assert await credentials(authority.base, tmp_path).obtain() is None
    assert (str(file) in caplog.text) is (fault != "url")


async def test_a_stored_token_endpoint_that_may_not_be_used_gets_nothing(
    authority: Authority, user: User, tmp_path: Path
) -> None:
    authority.lifetime = 1
    await signed_in(credentials(authority.base, tmp_path))
    file = _file(tmp_path)
    content = json.loads(file.read_text())
    content["server"]["token_endpoint"] = "http://evil.example/token"
    content["expires"] = 1
    file.write_text(json.dumps(content))
    line = await credentials(authority.base, tmp_path).obtain()
    assert line == (b"authorization", b"Bearer access-token-2")
    assert [form["grant_type"] for form in authority.forms] == ["authorization_code"] * 2


async def test_an_expired_token_is_refreshed_without_the_user(
    authority: Authority, user: User, tmp_path: Path
) -> None:
    authority.lifetime = 1
    await signed_in(credentials(authority.base, tmp_path))
    authority.lifetime = 3600
    source = credentials(authority.base, tmp_path)
    assert await source.obtain() == (b"authorization", b"Bearer access-token-2")
    assert authority.forms[1]["refresh_token"] == "r1"
    assert len(user.opened) == 1
    again = credentials(authority.base, tmp_path)
    assert await again.obtain() == (b"authorization", b"Bearer access-token-2")


async def test_a_token_that_the_server_refuses_is_refreshed(
    authority: Authority, user: User, tmp_path: Path
) -> None:
    source = credentials(authority.base, tmp_path)
    line = (b"authorization", await signed_in(source))
    assert source.challenged(401, b'Bearer error="invalid_token"', line)
    assert await source.obtain() == (b"authorization", b"Bearer access-token-2")
    assert len(user.opened) == 1


async def test_the_user_signs_in_again_if_the_refresh_is_refused(
    authority: Authority, user: User, tmp_path: Path
) -> None:
    source = credentials(authority.base, tmp_path)
    line = (b"authorization", await signed_in(source))
    authority.refreshes = False
    assert source.challenged(401, b"Bearer", line)
    assert await source.obtain() == (b"authorization", b"Bearer access-token-3")
    assert len(user.opened) == 2
    assert len(authority.registered) == 1, "the client was registered again"


async def test_an_authorization_server_that_is_down_opens_no_browser(
    authority: Authority, user: User, tmp_path: Path
) -> None:
    source = credentials(authority.base, tmp_path)
    line = (b"authorization", await signed_in(source))
    authority.token_status = 503
    source.challenged(401, b"Bearer", line)
    with pytest.raises(TokenUnavailable):
        await source.obtain()
    assert len(user.opened) == 1


async def test_more_scopes_are_requested_once_for_a_challenge(
    authority: Authority, user: User, tmp_path: Path
) -> None:
    source = credentials(authority.base, tmp_path, SignIn(scopes=("read",)))
    line = (b"authorization", await signed_in(source))
    assert authority.visits[0]["scope"] == "read"
    challenge = b'Bearer error="insufficient_scope", scope="write"'
    assert source.challenged(403, challenge, line)
    more = await source.obtain()
    assert more == (b"authorization", b"Bearer access-token-2")
    assert set(authority.visits[1]["scope"].split()) == {"read", "write"}
    assert not source.challenged(403, challenge, more)
    assert not source.challenged(403, b"Bearer", more)


async def test_a_registered_client_and_its_port_are_used(
    authority: Authority, user: User, tmp_path: Path
) -> None:
    settings = SignIn(client_id="mine", client_secret="s")
    await signed_in(credentials(authority.base, tmp_path, settings))
    assert not authority.registered
    assert authority.visits[0]["client_id"] == "mine"
    file = _file(tmp_path)
    assert json.loads(file.read_text())["client"] is None, "the secret is in the configuration"


async def test_a_sign_in_without_an_answer_is_given_up_and_not_offered_again_at_once(
    authority: Authority, user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Short:
        value = 0.05

        @staticmethod
        def record() -> None: ...

    monkeypatch.setattr(browser, "SIGN_IN_TIME", Short)
    user.answers = False
    source = credentials(authority.base, tmp_path)
    source.challenged(401, b"", None)
    with pytest.raises(SignInNeeded, match=r"nobody signed in.*restart mcpproxy"):
        await source.obtain()
    for fetch in range(3):
        with pytest.raises(SignInNeeded):
            await source._fetch()
        assert len(user.opened) == 1, fetch


async def test_a_refusal_of_the_user_is_the_reason(
    authority: Authority, user: User, tmp_path: Path
) -> None:
    authority.error = "access_denied"
    source = credentials(authority.base, tmp_path)
    source.challenged(401, b"", None)
    with pytest.raises(SignInNeeded, match="access_denied"):
        await source.obtain()


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "http://127.0.0.1:1"},
        {"authorization_endpoint": "http://login.example.com/"},
        {"token_endpoint": "http://login.example.com/token"},
        {"registration_endpoint": "http://169.254.169.254/register"},
    ],
)
async def test_metadata_of_another_or_an_insecure_server_is_refused(
    authority: Authority, user: User, tmp_path: Path, metadata: dict[str, object]
) -> None:
    authority.metadata = metadata
    source = credentials(authority.base, tmp_path)
    source.challenged(401, b"", None)
    with pytest.raises((SignInNeeded, TokenUnavailable)):
        await source.obtain()
    assert not any("example" in url for url in user.opened)
    assert not authority.forms


async def test_a_response_with_another_state_does_not_end_a_sign_in(
    authority: Authority, user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcpproxy.proxy.upstream.sign_in.credentials.GRACE", 0.5)
    authority.state = "forged"
    source = credentials(authority.base, tmp_path)
    source.challenged(401, b"", None)
    with pytest.raises(SignInNeeded, match="waits for a sign-in"):
        await source.obtain()
    assert not authority.forms
    await source.close()


async def test_no_token_or_secret_is_logged(
    authority: Authority, user: User, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    settings = SignIn(client_id="mine", client_secret="the-secret")
    await signed_in(credentials(authority.base, tmp_path, settings))
    text = "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("mcp"))
    assert "sign in at" in text
    for secret in (
        "Bearer access-token-1",
        "the-secret",
        "the-code",
        authority.forms[0]["code_verifier"],
    ):
        assert secret not in text
