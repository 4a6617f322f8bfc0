"""What every channel gets, and how it reports a failure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class Outgoing:
    """One rendered message to one recipient.

    `identity` is the same each time this delivery is sent again by itself, so that receivers can recognize it. It is
    the Message-ID or the webhook-id. `facts` is what the templates saw, plain JSON with secrets masked. `address` is
    an e-mail address or a URL, empty for the inbox; `secrets` are those that a webhook is signed with; `seconds` is all
    the time that sending may take.
    """

    identity: str
    event: str
    happened_at: datetime
    subject: str
    text: str
    html: str
    language: str
    address: str = ""
    user_id: int | None = None
    secrets: tuple[str, ...] = ()
    seconds: float = 15.0
    facts: Mapping[str, object] = field(default_factory=dict)


class DeliveryFailed(Exception):
    """The message was not delivered; the sentence names what refused it and why.

    `is_final`: no other try will help. `retry_after`: seconds that the receiver asked to wait, if it did.
    """

    def __init__(self, message: str, *, is_final: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.is_final = is_final
        self.retry_after = retry_after
