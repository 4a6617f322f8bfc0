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
        """Send, and say in one short sentence what the receiver said; raises DeliveryFailed."""
        return str(self._module.send(message))

    def check_address(self, address: str) -> str:
        """The address as it is kept; raises jobsite.errors.Invalid, with one sentence, for what is none."""
        return str(self._module.check_address(address))

    @property
    def _module(self) -> ModuleType:
        return import_module(f"{__name__}.{self.name}")


CHANNELS = {name: Channel(name) for name in ("email", "webhook", "inbox")}


def one_line(text: str, limit: int = 200) -> str:
    """What others wrote, fit for a header or a sentence: no control characters, no lone surrogates, so long at most."""
    return " ".join(_CONTROL.sub(" ", text).split())[:limit].rstrip()
