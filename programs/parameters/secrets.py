"""Fingerprints of requests, and the encryption of secrets among parameters.

Both need JOBSITE_SECRET_KEYS. Secrets are encrypted with keys that are derived from these (jobsite.vault), so that no
fingerprint, which is stored, is ever made with a key that encrypts.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from cryptography.fernet import InvalidToken, MultiFernet
from django.conf import settings

from jobsite import vault
from jobsite.programs.parameters.schema_errors import Path
from jobsite.values import masking, storable
from jobsite.values.masking import SECRET_KEY, Mask


class SecretLost(Exception):
    """No key decrypts a stored secret; the message names the parameter and what to do."""


def fingerprints(request: bytes) -> list[str]:
    """HMAC-SHA256 of a canonical request under each of JOBSITE_SECRET_KEYS, newest first.

    The first is stored; any of them may match one that was stored before a key was rotated.
    """
    return [hmac.new(key.encode(), request, hashlib.sha256).hexdigest() for key in settings.JOBSITE_SECRET_KEYS]


def encrypted(parameters: dict[str, Any], paths: Collection[Path]) -> dict[str, Any]:
    """A copy of parameters in which each value at one of the paths is encrypted by itself, with the newest key."""
    newest, secret = vault.ciphers()[0], frozenset(paths)

    def seal(value: object, path: Path) -> object:
        if path in secret:
            return {SECRET_KEY: newest.encrypt(json.dumps(value, ensure_ascii=False).encode()).decode()}
        return _mapped(value, path, seal)

    return _copied(parameters, seal)


class ClearParameters(dict[str, Any]):
    """Parameters with their secrets in clear, for the action alone; when printed, secrets appear as ••••."""

    def __init__(self, clear: dict[str, Any], shown: dict[str, Any]) -> None:
        super().__init__(clear)
        self._shown = shown

    def __repr__(self) -> str:
        return repr(self._shown)


def opened(parameters: dict[str, Any]) -> tuple[ClearParameters, Mask | None]:
    """Stored parameters with their secrets decrypted for the action, and the mask that hides these in its output.

    Raises SecretLost.
    """
    keys = MultiFernet(vault.ciphers())
    found: list[object] = []

    def open_(value: object, path: Path) -> object:
        if not _is_sealed(value):
            return _mapped(value, path, open_)
        found.append(json.loads(_with(keys.decrypt, value, path)))
        return found[-1]

    clear = _copied(parameters, open_)
    return ClearParameters(clear, masking.masked(parameters)), masking.mask_of(found)


def sealed_in(parameters: dict[str, Any]) -> list[Path]:
    """The paths of the encrypted secrets in stored parameters, in order."""
    found: list[Path] = []

    def note(value: object, path: Path) -> object:
        if _is_sealed(value):
            found.append(path)
            return value
        return _mapped(value, path, note)

    _copied(parameters, note)
    return found


def is_shown(given: Mapping[str, Any], path: Path) -> bool:
    """Whether the value at a path is a secret in its masked or encrypted form, which people can see and copy."""
    value = storable.part(given, path)
    return value == masking.MASK or _is_sealed(value)


def rotated(parameters: dict[str, Any]) -> dict[str, Any] | None:
    """Stored parameters with every secret under the newest key; None if all are already. Raises SecretLost."""
    newest, keys = vault.ciphers()[0], MultiFernet(vault.ciphers())
    changes = 0

    def turn(value: object, path: Path) -> object:
        nonlocal changes
        if not _is_sealed(value):
            return _mapped(value, path, turn)
        try:
            _with(newest.decrypt, value, path)
        except SecretLost:
            changes += 1
            return {SECRET_KEY: _with(keys.rotate, value, path).decode()}
        return value

    copy = _copied(parameters, turn)
    return copy if changes else None


_Change = Callable[[object, Path], object]


def _copied(parameters: dict[str, Any], change: _Change) -> dict[str, Any]:
    return {key: change(value, (key,)) for key, value in parameters.items()}


def _mapped(value: object, path: Path, change: _Change) -> object:
    if isinstance(value, dict):
        return {key: change(one, (*path, key)) for key, one in value.items()}
    if isinstance(value, list):
        return [change(one, (*path, index)) for index, one in enumerate(value)]
    return value


def _is_sealed(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == {SECRET_KEY}


def _with(use: Callable[[str], bytes], sealed: Any, path: Path) -> bytes:
    try:
        return use(str(sealed[SECRET_KEY]))
    except (InvalidToken, ValueError):
        raise SecretLost(
            f"parameter {storable.pointer(path)} cannot be decrypted with any of JOBSITE_SECRET_KEYS; "
            "put back the key that it was encrypted with, or submit the job again"
        ) from None
