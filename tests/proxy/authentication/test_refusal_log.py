"""The log of refused tokens names the claim, its value and the remedy."""

import logging
from typing import Any

import pytest

from mcpproxy.proxy.authentication.refusals import LOGGED
from tests.proxy.authentication.stage import Stage
from tests.proxy.authentication.tokens import ABSENT, ISSUER, NOW, OTHER_RSA, PUBLIC_URL, Issuer


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines of the log on tokens."""
    messages = [record.getMessage() for record in caplog.records]
    return [message for message in messages if message.startswith("a token was refused")]


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"aud": ["account"]}, ['aud is ["account"]', f'publicUrl "{PUBLIC_URL}"', "mapper"]),
        ({"aud": ABSENT}, ["aud is null", f'publicUrl "{PUBLIC_URL}"']),
        ({"iss": f"{ISSUER}/"}, [f'iss is "{ISSUER}/"', f'["{ISSUER}"]', "slash at the end"]),
        ({"exp": NOW - 400}, ["exp was 400 s ago", "clocks"]),
        ({"iat": NOW + 300}, ["iat is 300 s ahead", "clocks"]),
        ({"nbf": NOW + 300}, ["nbf is 300 s ahead", "clocks"]),
        ({"sub": ABSENT}, ["the claim of the subject is null", "claims.subject"]),
        ({"typ": "ID"}, ['typ is "JWT" in the header and "ID" in the claims', "access_token"]),
        ({"nonce": "n"}, ['typ is "JWT" in the header and null in the claims', "access_token"]),
    ],
)
async def test_a_line_names_the_claim_its_value_and_the_remedy(
    claims: dict[str, Any], words: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage()
    await stage.refusal(stage.issuer.token(**claims))
    [line] = lines(caplog)
    assert [word for word in words if word not in line] == []


async def test_a_line_names_the_key_that_the_issuer_does_not_publish(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await Stage().refusal(Issuer(now=NOW, key=OTHER_RSA, key_id="two").token())
    [line] = lines(caplog)
    assert 'no key with kid "two" for "RS256"' in line


async def test_configured_audiences_are_named_instead_of_the_public_url(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage(audiences=("tools", "agents"))
    await stage.refusal(stage.issuer.token())
    [line] = lines(caplog)
    assert 'one of the configured audiences ["agents", "tools"]' in line


async def test_many_refusals_for_one_reason_write_one_line_in_each_interval(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage()
    for _ in range(100):
        await stage.refusal(stage.issuer.token(aud="other"))
    assert len(lines(caplog)) == 1
    await stage.refusal(stage.issuer.token(iss="https://other.example"))
    assert len(lines(caplog)) == 2
    stage.now += LOGGED
    await stage.refusal(stage.issuer.token(aud="other"))
    assert len(lines(caplog)) == 3


async def test_a_line_quotes_a_hostile_value_cut_and_without_control_characters(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage()
    await stage.refusal(stage.issuer.token(aud="\x1b[2J\n\u202e" + "x" * 5000))
    [line] = lines(caplog)
    assert line.isprintable()
    assert len(line) < 700


async def test_requests_without_credentials_write_no_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    stage = Stage()
    await stage.refusal("not-a-token")
    assert lines(caplog) == []
