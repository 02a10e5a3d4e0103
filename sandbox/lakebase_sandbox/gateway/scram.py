"""The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), for logging in to PostgreSQL on a client's behalf."""

import base64
import hashlib
import hmac
import secrets

MECHANISM = "SCRAM-SHA-256"
_NO_CHANNEL_BINDING = "n,,"


class ScramClient:
    """One SCRAM exchange: `first()`, then `final(server_first)`.

    PostgreSQL takes the user name from the startup message, so the one in the exchange stays empty.
    """

    def __init__(self, password: str) -> None:
        self._password = password.encode()
        self._nonce = base64.b64encode(secrets.token_bytes(18)).decode()

    def first(self) -> bytes:
        return f"{_NO_CHANNEL_BINDING}{self._first_bare}".encode()

    def final(self, server_first: bytes) -> bytes:
        """Answer the server's challenge.

        Raises:
            ValueError: the challenge is malformed or not an answer to our first message.
        """
        challenge = dict(part.split("=", 1) for part in server_first.decode().split(","))
        if not challenge.keys() >= {"r", "s", "i"} or not challenge["r"].startswith(self._nonce):
            raise ValueError("malformed SCRAM challenge")
        salted = hashlib.pbkdf2_hmac(
            "sha256", self._password, base64.b64decode(challenge["s"]), int(challenge["i"])
        )
        binding = base64.b64encode(_NO_CHANNEL_BINDING.encode()).decode()
        without_proof = f"c={binding},r={challenge['r']}"
        signed = f"{self._first_bare},{server_first.decode()},{without_proof}".encode()
        client_key = _hmac(salted, b"Client Key")
        signature = _hmac(hashlib.sha256(client_key).digest(), signed)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    @property
    def _first_bare(self) -> str:
        return f"n=,r={self._nonce}"


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
