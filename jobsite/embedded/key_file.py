"""The keys of an installation without configuration: generated once and kept in its home."""

import base64
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from jobsite.embedded.places import EmbeddedError, locked, prepare_home, translated_errors


@dataclass(frozen=True)
class Keys:
    """The keys of one installation. `secret_keys` are Fernet keys, newest first."""

    django_secret_key: str
    secret_keys: tuple[str, ...]


def keys(home: Path) -> Keys:
    """Return the keys of `home`; generate them if there are none. All processes get the same keys.

    Raises:
        EmbeddedError: the file cannot be read, written or parsed.
    """
    home = home.resolve()
    file = home / "keys"
    with translated_errors(home):
        prepare_home(home)
        if not file.exists():
            with locked(home):
                if not file.exists():
                    _write(file, _generate())
        return _read(file)


def _generate() -> Keys:
    fernet_key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return Keys(django_secret_key=secrets.token_urlsafe(50), secret_keys=(fernet_key,))


def _write(file: Path, made: Keys) -> None:
    unfinished = file.with_name("keys.new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        json.dump(asdict(made), stream)
        stream.flush()
        os.fsync(descriptor)
    unfinished.rename(file)


def _read(file: Path) -> Keys:
    try:
        found = json.loads(file.read_text())
        return Keys(
            django_secret_key=str(found["django_secret_key"]),
            secret_keys=tuple(str(key) for key in found["secret_keys"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise EmbeddedError(
            f"{file} is damaged: restore it from a backup, or delete it; this ends all sessions and makes stored "
            "secrets unreadable."
        ) from error
