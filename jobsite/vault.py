"""Encrypt what must not be in the database as plain text, with keys derived from JOBSITE_SECRET_KEYS."""

import base64
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

_PURPOSE = b"jobsite: secret parameters"


class Lost(Exception):
    """An encrypted text that none of JOBSITE_SECRET_KEYS can decrypt."""


def ciphers() -> list[Fernet]:
    """A cipher for each of JOBSITE_SECRET_KEYS, newest first. Its key is derived, so any text can be a secret key."""
    return _derived(tuple(settings.JOBSITE_SECRET_KEYS))


def sealed(text: str) -> str:
    """Encrypt a text with the newest key."""
    return ciphers()[0].encrypt(text.encode()).decode()


def opened(token: str) -> str:
    """Decrypt with any of the keys. Raises Lost."""
    try:
        return MultiFernet(ciphers()).decrypt(token).decode()
    except InvalidToken:
        raise Lost("none of JOBSITE_SECRET_KEYS decrypts it; add the key that it was encrypted with") from None


def rotated(token: str) -> str | None:
    """Encrypt again with the newest key; None where it is already. Raises Lost."""
    newest = ciphers()[0]
    try:
        newest.decrypt(token)
    except InvalidToken:
        return sealed(opened(token))
    return None


@lru_cache(maxsize=10)
def _derived(keys: tuple[str, ...]) -> list[Fernet]:
    return [Fernet(base64.urlsafe_b64encode(_derive(key))) for key in keys]


def _derive(key: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(key.encode())
