"""The inbox: the delivery's own row is the message, so that nothing has to go anywhere."""

from jobsite.errors import Invalid
from jobsite.notifications.channels.base import DeliveryFailed, Outgoing


def send(message: Outgoing) -> str:
    """Return that it is there; raises DeliveryFailed where it is for no user."""
    if message.user_id is None:
        raise DeliveryFailed("an inbox belongs to a user, and this message is for none", is_final=True)
    return "in the inbox"


def check_address(address: str) -> str:
    """The empty address, the only one that an inbox has."""
    if address.strip():
        raise Invalid("the inbox takes no address: name the users, or a role")
    return ""
