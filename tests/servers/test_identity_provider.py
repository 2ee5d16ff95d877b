from urllib.parse import parse_qs, urlsplit

import pytest

from tests.servers.identity_provider import OAuthError, Provider, challenge_of

RETURN_TO = "http://127.0.0.1:1/oauth2callback"
CLIENT = ("recallwatch", "s3cret")
ASKED = {
    "client_id": "recallwatch", "response_type": "code", "redirect_uri": RETURN_TO,
    "scope": "openid email", "state": "s", "nonce": "n", "code_challenge_method": "S256",
    "code_challenge": challenge_of("verifier"),
}  # fmt: skip


@pytest.fixture(scope="module")
def provided() -> Provider:
    return Provider(*CLIENT, RETURN_TO, {"email": "ana@example.com"})


def code_of(provided: Provider) -> dict[str, str]:
    query = parse_qs(urlsplit(provided.authorize(ASKED)).query)
    assert query["state"] == ["s"]
    return {"code": query["code"][0], "redirect_uri": RETURN_TO, "code_verifier": "verifier"}


def test_a_code_is_good_for_one_token(provided: Provider) -> None:
    asked = code_of(provided)
    assert str(provided.token(CLIENT, asked)["id_token"]).count(".") == 2
    with pytest.raises(OAuthError, match="invalid_grant"):
        provided.token(CLIENT, asked)


@pytest.mark.parametrize(
    "wrong", [{"code_verifier": "another"}, {"redirect_uri": "http://else"}, {"code": "guessed"}]
)
def test_a_code_is_refused_when_what_belongs_to_it_is_wrong(
    provided: Provider, wrong: dict[str, str]
) -> None:
    with pytest.raises(OAuthError, match="invalid_grant"):
        provided.token(CLIENT, code_of(provided) | wrong)


def test_another_client_gets_no_token(provided: Provider) -> None:
    with pytest.raises(OAuthError, match="invalid_client"):
        provided.token(("recallwatch", "guessed"), code_of(provided))


@pytest.mark.parametrize(
    "wrong", [{"code_challenge_method": "plain"}, {"redirect_uri": "http://else"}, {"scope": "x"}]
)
def test_no_code_is_given_when_the_question_is_wrong(
    provided: Provider, wrong: dict[str, str]
) -> None:
    with pytest.raises(OAuthError, match="invalid_request"):
        provided.authorize(ASKED | wrong)
