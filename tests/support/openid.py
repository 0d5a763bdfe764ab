"""A small OpenID provider on loopback, as the Hub is one for its Spaces: it signs in whoever ``account`` names."""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

CLIENT, SECRET = "the-space", "the-spaces-own-secret"


def coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Provider(ThreadingHTTPServer):
    """
    Attributes:
        account: Name and number of whoever is at the browser.
        refuses: An error that it leads back with, instead of a code.
        claims: Claims of the ID token instead of the true ones.
        tokens: Every token that it gave out, and the codes for them.
        asked: Query of each way that was begun.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.account = ("ann", "0123456789abcdef")
        self.refuses = ""
        self.claims: dict[str, Any] = {}
        self.tokens: list[str] = []
        self.asked: list[dict[str, str]] = []
        self.codes: dict[str, str] = {}

    def id_token(self, nonce: str) -> str:
        name, number = self.account
        now = int(time.time())
        told: dict[str, Any] = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 3600, "nonce": nonce}
        told |= {"sub": number, "preferred_username": name, "name": "Ann <script>", **self.claims}
        head = {"alg": "RS256", "kid": "one", "typ": "JWT"}
        text = f"{coded(json.dumps(head).encode())}.{coded(json.dumps(told).encode())}"
        return f"{text}.{coded(self.key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    def jwks(self) -> dict[str, Any]:
        numbers = self.key.public_key().public_numbers()
        size = (numbers.n.bit_length() + 7) // 8
        key = {"kty": "RSA", "kid": "one", "use": "sig", "alg": "RS256"}
        return {"keys": [key | {"n": coded(numbers.n.to_bytes(size)), "e": coded(numbers.e.to_bytes(3))}]}


class Handler(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        provider, parts = self.server, urlsplit(self.path)
        if parts.path == "/.well-known/openid-configuration":
            at = {name: f"{provider.url}/oauth/{name}" for name in ("authorize", "token", "jwks")}
            self._tell(
                {
                    "issuer": provider.url,
                    "authorization_endpoint": at["authorize"],
                    "token_endpoint": at["token"],
                    "jwks_uri": at["jwks"],
                    "id_token_signing_alg_values_supported": ["RS256"],
                }
            )
        elif parts.path == "/oauth/jwks":
            self._tell(provider.jwks())
        elif parts.path == "/oauth/authorize":
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            provider.asked.append(asked)
            code = secrets.token_urlsafe(16)
            provider.codes[code] = asked.get("nonce", "")
            told = {"error": provider.refuses} if provider.refuses else {"code": code}
            self.send_response(302)
            self.send_header("Location", f"{asked['redirect_uri']}?{urlencode(told | {'state': asked['state']})}")
            self.end_headers()
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        provider = self.server
        body = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        expected = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        code = body.get("code", [""])[0]
        if self.headers.get("authorization") != f"Basic {expected}" or code not in provider.codes:
            self._tell({"error": "invalid_grant"}, 400)
            return
        token, id_token = secrets.token_urlsafe(24), provider.id_token(provider.codes.pop(code))
        provider.tokens += [token, id_token, code]
        self._tell({"access_token": token, "token_type": "bearer", "expires_in": 28800, "id_token": id_token})

    def _tell(self, found: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def openid() -> Iterator[Provider]:
    """It answers until the block ends."""
    provider = Provider()
    thread = threading.Thread(target=provider.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        provider.shutdown()
        provider.server_close()
        thread.join()
