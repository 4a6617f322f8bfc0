"""The ways a message goes out, by name; each is a module beside this one, imported when it is first used."""

import re
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from jobsite.notifications.channels.base import Outgoing

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True)
class Channel:
    """One way, by its name."""

    name: str

    def send(self, message: Outgoing) -> str:
        """Send, and return the receiver's answer in one short sentence; raises DeliveryFailed."""
        return str(self._module.send(message))

    def check_address(self, address: str) -> str:
        """The address as it is stored; raises jobsite.errors.Invalid, with one sentence, for an invalid one."""
        return str(self._module.check_address(address))

    @property
    def _module(self) -> ModuleType:
        return import_module(f"{__name__}.{self.name}")


CHANNELS = {name: Channel(name) for name in ("email", "webhook", "inbox")}


def one_line(text: str, limit: int = 200) -> str:
    """Text of others, made fit for a header or sentence: no control characters or lone surrogates, at most `limit`."""
    return " ".join(_CONTROL.sub(" ", text).split())[:limit].rstrip()
