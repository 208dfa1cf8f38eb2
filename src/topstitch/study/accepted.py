"""Cautions that a person has looked at and accepts by name. They stand in the study, with who accepted them, and hold its verdict at a trial no longer.

A caution may be right in general and mean nothing here: that all stays end after 72 hours, because the ward is left then. Only somebody who knows how the
table came about can say so. A critical finding cannot be accepted: numbers of an unsound table mean nothing, whoever vouches for it.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ..data import BadData
from ..data.check import Finding


class Accepted(NamedTuple):
    """What somebody accepts for one study."""

    codes: tuple[str, ...] = ()
    "Of cautions."
    by: str | None = None
    "Who has looked at them."

    def plain(self) -> dict | None:
        """For `study.json`; None where nothing is accepted."""
        return {"codes": sorted(set(self.codes)), "by": self.by} if self.codes else None

    def left(self, found: Sequence[Finding]) -> int:
        """How many cautions still forbid more than a trial. Raises `BadData` for a code that is not one of a caution that was found."""
        severity = {one.code: one.severity for one in found}
        for code in self.codes:
            if severity.get(code) != "caution":
                raise BadData(
                    f"{code!r} {WHY[severity.get(code)]}. Cautions that can be accepted here: {', '.join(codes(found)) or 'none'}."
                )
        return sum(one.severity == "caution" and one.code not in self.codes for one in found)

    def sentence(self, found: Sequence[Finding]) -> str:
        """Accepted for this study by …: what was found (its code); empty where nothing is accepted."""
        titles = {one.code: one.title for one in found}
        told = "; ".join(f"{titles[code]} ({code})" for code in sorted(set(self.codes)))
        return f"Accepted for this study{f' by {self.by}' if self.by else ''}: {told}." if told else ""


WHY = {
    None: "cannot be accepted: the checks did not find it in this table",
    "critical": "cannot be accepted: it is critical, and an unsound table must be repaired",
    "warning": "need not be accepted: it is a warning, which holds no verdict back",
    "note": "need not be accepted: it is a note, which holds no verdict back",
}


def codes(found: Sequence[Finding]) -> list[str]:
    """Of the cautions that were found, each once."""
    return list(dict.fromkeys(one.code for one in found if one.severity == "caution"))
