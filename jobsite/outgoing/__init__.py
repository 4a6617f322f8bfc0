"""All outgoing HTTP requests, and the guard that says where they may go.

Users write the URLs. Their host names are resolved here, and every address found is checked. The connection goes to
one of the checked addresses, because the name may resolve to another one a moment later. Every redirect is checked in
the same way. Nothing is read from the environment, so that no proxy sends the request in our place.
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
