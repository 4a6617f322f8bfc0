"""Encrypt what must not stand in the database in clear, under keys derived from JOBSITE_SECRET_KEYS."""

import base64
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

_PURPOSE = b"jobsite: secret parameters"


class Lost(Exception):
    """Something sealed that none of JOBSITE_SECRET_KEYS opens."""


def ciphers() -> list[Fernet]:
    """One for each of JOBSITE_SECRET_KEYS, newest first: derived from it, so that any text will do."""
    return _derived(tuple(settings.JOBSITE_SECRET_KEYS))


def sealed(text: str) -> str:
    """A text under the newest key."""
    return ciphers()[0].encrypt(text.encode()).decode()


def opened(token: str) -> str:
    """What was sealed, under any of the keys; raises Lost."""
    try:
        return MultiFernet(ciphers()).decrypt(token).decode()
    except InvalidToken:
        raise Lost("none of JOBSITE_SECRET_KEYS opens it; put back the key that it was encrypted with") from None


def rotated(token: str) -> str | None:
    """The same under the newest key; None where it is already. Raises Lost."""
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
