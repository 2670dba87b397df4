"""Who is answered by which model: shares of the users by a stable hash, and a shadow that is asked beside.

A user stays with one model for as long as the shares and the salt stay; another salt deals everybody out anew.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from tongtu.serve.engine.messages import NotPossible

_SPAN = 1 << 64


@dataclass(frozen=True)
class Traffic:
    """The shares.

    Attributes:
        split: The share of each model by name; together 1. Empty where one model answers all.
        shadow: Name of a model that is asked too, without its answer being given, or None.
        shadow_share: Of the users for whom it is asked.
        salt: Text that goes into the hash.
    """

    split: Mapping[str, float] = field(default_factory=dict)
    shadow: str | None = None
    shadow_share: float = 0.0
    salt: str = ""

    @classmethod
    def of(cls, split: Mapping[str, float], shadow: Mapping[str, Any] | None, salt: str | None) -> Self:
        """Shares from plain values; `shadow` holds "model" and "share".

        Raises:
            NotPossible: If a share is negative, or the shares do not sum to 1.
        """
        shares = {name: float(share) for name, share in split.items()}
        share = 0.0 if shadow is None else float(shadow.get("share", 1.0))
        if any(not 0 <= one <= 1 for one in (*shares.values(), share)):
            raise NotPossible("a share of the traffic must lie between 0 and 1: give shares that sum to 1")
        if shares and abs(sum(shares.values()) - 1) > 1e-6:
            raise NotPossible(f"the shares of the traffic sum to {sum(shares.values()):g}: give shares that sum to 1")
        return cls(shares, None if shadow is None else str(shadow["model"]), share, salt or "")

    def plain(self) -> dict[str, Any]:
        """What `of` takes."""
        shadow = None if self.shadow is None else {"model": self.shadow, "share": self.shadow_share}
        return {"split": dict(self.split), "shadow": shadow, "salt": self.salt}

    def name_for(self, user: str | None) -> str | None:
        """The model that answers a user, None where there are no shares. Who says not who they are is dealt out anew each time."""
        if not self.split:
            return None
        point, passed = self._point("split", user), 0.0
        for name in sorted(self.split):
            passed += self.split[name]
            if point < passed and self.split[name]:
                return name
        return max(self.split, key=lambda name: self.split[name])

    def shadowed(self, user: str | None) -> bool:
        """Whether the shadow is asked too."""
        return self.shadow is not None and self._point("shadow", user) < self.shadow_share

    def without(self, name: str) -> Traffic:
        """The shares when a model is gone: those of the others grow alike."""
        left = {other: share for other, share in self.split.items() if other != name}
        total = sum(left.values())
        split = {other: share / total for other, share in left.items()} if total and len(left) > 1 else {}
        gone = self.shadow == name
        return Traffic(split, None if gone else self.shadow, 0.0 if gone else self.shadow_share, self.salt)

    def _point(self, purpose: str, user: str | None) -> float:
        if user is None:
            return random.random()
        digest = hashlib.sha256(f"{purpose}\0{self.salt}\0{user}".encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") / _SPAN
