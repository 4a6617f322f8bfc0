"""Everything that goes out by HTTP, and the guard that says where to.

Users write the URLs. What they name is resolved here, every address that comes out is judged, and the connection goes
to one of those, not to what the name may mean a moment later; so at every redirect. Nothing is read from the
environment, so that no proxy asks in our place.
"""

from jobsite.outgoing.addresses import forbidden
from jobsite.outgoing.client import MAX_REDIRECTS, Answer, send
from jobsite.outgoing.errors import OutgoingError, OutgoingRefused, OutgoingTimeout
from jobsite.outgoing.urls import check_url

__all__ = [
    "MAX_REDIRECTS",
    "Answer",
    "OutgoingError",
    "OutgoingRefused",
    "OutgoingTimeout",
    "check_url",
    "forbidden",
    "send",
]
