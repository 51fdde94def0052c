"""Whether this process may speak for its node: without that, it takes nothing and serves nothing.

Where there is a register, a node serves only once it was taken there: until then it might be a copy
of a directory whose owner is alive. A register that goes away later changes nothing.
"""

from __future__ import annotations

from common.errors import NotAdmitted
from common.wire.session import Hello

_HINT = "the log and /readyz of that putter say the same; see docs/howto/operate.md"


class Admission:
    """What connections of the node ask before they begin.

    Args:
        node: identity.
        registers: whether there is a register; without one, everybody is served at once.
    """

    def __init__(self, node: str, *, registers: bool) -> None:
        self._node = node
        self._open = not registers
        self._refusal = ""

    @property
    def refusal(self) -> NotAdmitted | None:
        """Why the register refused this process; None if it did not, so far."""
        return NotAdmitted(self._refusal, hint=_HINT) if self._refusal else None

    def grant(self) -> None:
        """The register took it."""
        self._open, self._refusal = True, ""

    def refuse(self, reason: str) -> NotAdmitted:
        """The register refused it."""
        self._open, self._refusal = False, reason
        return NotAdmitted(reason, hint=_HINT)

    def check(self, _: Hello) -> None:
        """Let a session begin.

        Raises:
            NotAdmitted: not before the register took this process.
        """
        if not self._open:
            raise self.refusal or NotAdmitted(
                f"putter {self._node} is not registered with Redis yet", hint="it is tried again"
            )
