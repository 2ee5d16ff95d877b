"""An OpenID provider on loopback: authorization code flow with PKCE, for one person, who agrees.

It refuses what a provider has to refuse: another client, another address to return to, a code that
was used before, a verifier that is not the one of the challenge.
"""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.servers.ports import HOST

KEY_BITS, KEY_ID = 2048, "key-1"
LASTS_S = 3600


class OAuthError(Exception):
    """An error of OAuth 2, by its code."""


def _key() -> RSAKey:
    return RSAKey.generate_key(KEY_BITS, {"kid": KEY_ID})


@dataclass
class Provider:
    """``claims`` are what it says of the person; ``is_lying`` signs them with a key of its own."""

    client_id: str
    client_secret: str
    return_to: str
    claims: Mapping[str, object]
    is_lying: bool = False
    url: str = ""
    key: RSAKey = field(default_factory=_key)
    codes: dict[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def discovery(self) -> str:
        """Where it describes itself."""
        return f"{self.url}/.well-known/openid-configuration"

    def described(self) -> dict[str, object]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def keys(self) -> dict[str, object]:
        own = self.key.as_dict(private=False)
        return {"keys": [{**own, "alg": "RS256", "use": "sig"}]}

    def authorize(self, asked: Mapping[str, str]) -> str:
        """The address to return to, with a code."""
        if asked.get("client_id") != self.client_id:
            raise OAuthError("unauthorized_client")
        wanted = ("code", self.return_to, "S256")
        names = ("response_type", "redirect_uri", "code_challenge_method")
        if tuple(map(asked.get, names)) != wanted or "openid" not in asked.get("scope", "").split():
            raise OAuthError("invalid_request")
        code = secrets.token_urlsafe()
        self.codes[code] = asked
        return f"{self.return_to}?{urlencode({'code': code, 'state': asked['state']})}"

    def token(self, client: tuple[str, str], asked: Mapping[str, str]) -> dict[str, object]:
        """The token for a code, once."""
        if client != (self.client_id, self.client_secret):
            raise OAuthError("invalid_client")
        began = self.codes.pop(asked.get("code", ""), None)
        if began is None or asked.get("redirect_uri") != self.return_to:
            raise OAuthError("invalid_grant")
        if challenge_of(asked.get("code_verifier", "")) != began["code_challenge"]:
            raise OAuthError("invalid_grant")
        now = int(time.time())
        told = {
            "iss": self.url, "aud": self.client_id, "sub": "17", "iat": now, "exp": now + LASTS_S,
            "nonce": began["nonce"], **self.claims,
        }  # fmt: skip
        key = _key() if self.is_lying else self.key
        return {
            "access_token": secrets.token_urlsafe(),
            "token_type": "Bearer",
            "expires_in": LASTS_S,
            "id_token": jwt.encode({"alg": "RS256", "kid": KEY_ID}, told, key),
        }


def challenge_of(verifier: str) -> str:
    """The challenge of a verifier, by the method S256 (RFC 7636)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@contextmanager
def provider(provided: Provider) -> Iterator[Provider]:
    """The provider, listening while the context is open."""
    server = ThreadingHTTPServer((HOST, 0), _handler(provided))
    server.daemon_threads = True
    provided.url = f"http://{HOST}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield provided
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(provided: Provider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            at = urlsplit(self.path)
            if at.path == "/authorize":
                try:
                    to = provided.authorize(dict(parse_qsl(at.query)))
                except OAuthError as refused:
                    self._answer(400, {"error": str(refused)})
                    return
                self._answer(302, {}, to)
                return
            told = {"/.well-known/openid-configuration": provided.described, "/jwks": provided.keys}
            found = told.get(at.path)
            self._answer(404 if found is None else 200, {} if found is None else found())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked = dict(parse_qsl(body.decode()))
            try:
                self._answer(200, provided.token(self._client(asked), asked))
            except OAuthError as refused:
                self._answer(400, {"error": str(refused)})

        def _client(self, asked: Mapping[str, str]) -> tuple[str, str]:
            """Name and secret, from the header or from the form (RFC 6749, 2.3.1)."""
            kind, _, said = self.headers.get("Authorization", "").partition(" ")
            if kind != "Basic":
                return asked.get("client_id", ""), asked.get("client_secret", "")
            name, _, secret = base64.b64decode(said).decode().partition(":")
            return unquote(name), unquote(secret)

        def _answer(self, status: int, told: Mapping[str, object], to: str = "") -> None:
            body = json.dumps(told).encode()
            self.send_response(status)
            if to:
                self.send_header("Location", to)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Nothing goes to standard error."""

    return Handler
