"""Whose a work is, under which terms, and what its owner has said about machines that learn from it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

RESERVED = "opt-out"


class Permission(enum.IntEnum):
    """What an owner's signal says about learning from a work, from the mildest to the strictest.

    UNKNOWN is the absence of a signal. It stands below ALLOWED only so that every signal outweighs it; it is never
    read as permission.
    """

    UNKNOWN = 0
    ALLOWED = 1
    CONSTRAINED = 2
    PROHIBITED = 3


class SignalKind(enum.Enum):
    """Where owners say it.

    IPTC_PLUS: `plus:DataMining` in XMP. CAWG: the training and data mining assertion in a C2PA manifest. TDMREP: the
    W3C community group's TDM Reservation Protocol. AI_TXT: a site's ai.txt. CLAIM: a statement made to whoever keeps
    the data set. TABLE: a column of the entry table.
    """

    IPTC_PLUS = "iptc-plus"
    CAWG = "cawg"
    TDMREP = "tdmrep"
    AI_TXT = "ai.txt"
    CLAIM = "claim"
    TABLE = "table"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One thing that an owner, or a file, says.

    Attributes:
        raw: the value as it was read.
        source: where it was read: a file, an address, a claim's number.
        read_at: when, ISO 8601.
    """

    kind: SignalKind
    permission: Permission
    raw: str
    source: str
    read_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """Whose a work is.

    Attributes:
        licence: SPDX identifier; "" when unknown.
        creator: who made it.
        source: package, address or collection that it came from.
        reservation: "" (none known; never read as permission) or "opt-out".
        credit: how the creator wants to be named; the creator when empty.
        dataset: id of the data set, the same as in a training summary.
        signals: everything that was read about opting out; the strictest holds.
    """

    licence: str
    licence_url: str
    creator: str
    source: str
    reservation: str = ""
    credit: str = ""
    dataset: str = ""
    signals: tuple[Signal, ...] = ()

    @property
    def permission(self) -> Permission:
        """What all signals together say."""
        return Permission.PROHIBITED if self.reservation == RESERVED else strictest(self.signals)


def strictest(signals: Iterable[Signal]) -> Permission:
    """The order-independent maximum; UNKNOWN when there are no signals."""
    return max((signal.permission for signal in signals), default=Permission.UNKNOWN)


class Terms(enum.Enum):
    """What a licence asks of whoever passes a work on."""

    PUBLIC_DOMAIN = "public-domain"
    PERMISSIVE = "permissive"
    ATTRIBUTION = "attribution"
    SHARE_ALIKE = "share-alike"
    RESTRICTED = "restricted"
    UNKNOWN = "unknown"


_PUBLIC_DOMAIN = frozenset({"CC0-1.0", "CC-PDDC", "PDDL-1.0", "Unlicense", "0BSD"})
_PERMISSIVE = frozenset({"MIT", "MIT-0", "Apache-2.0", "ISC", "Zlib", "BSD-2-Clause", "BSD-3-Clause", "OFL-1.1"})
_COPYLEFT = ("GPL-", "LGPL-", "AGPL-", "MPL-", "GFDL-", "EUPL-", "ODbL-")


def terms_of(licence: str) -> Terms:
    """The class of an SPDX licence identifier; what is not known is UNKNOWN, never permissive.

    No commercial use and no derivatives are RESTRICTED whatever else the licence asks.
    """
    if licence in _PUBLIC_DOMAIN:
        return Terms.PUBLIC_DOMAIN
    if licence in _PERMISSIVE:
        return Terms.PERMISSIVE
    if licence.startswith("CC-BY-"):
        conditions = set(licence.split("-"))
        if conditions & {"NC", "ND"}:
            return Terms.RESTRICTED
        return Terms.SHARE_ALIKE if "SA" in conditions else Terms.ATTRIBUTION
    if licence.startswith(_COPYLEFT):
        return Terms.SHARE_ALIKE
    return Terms.UNKNOWN
