"""What only this installation can compute: the fingerprint of a request."""

import hashlib
import hmac

from django.conf import settings


def fingerprints(request: bytes) -> list[str]:
    """HMAC-SHA256 of a canonical request under each of JOBSITE_SECRET_KEYS, newest first.

    The first is stored; any of them may match one that was stored before a key was rotated.
    """
    return [hmac.new(key.encode(), request, hashlib.sha256).hexdigest() for key in settings.JOBSITE_SECRET_KEYS]
