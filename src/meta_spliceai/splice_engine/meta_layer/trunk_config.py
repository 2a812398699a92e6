"""Which hidden channels of a base network are read, and where. Light, so that a row can be read."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from meta_spliceai.splice_engine.meta_layer.settings import Settings

TRUNK = "-trunk"
"""What the name of an encoder ends in that reads a base network's hidden channels; before it stands the family."""

TRUNK_STEP = "trunk features"
"""The step of a run in which a base network's hidden channels are computed."""

MEMBERS, READ_RADIUS, SITE_REACH = 5, 16, 300
"""Defaults of such an encoder's settings."""


class TrunkConfig(Settings):
    """What is read of a base network's trunk."""

    words: ClassVar[str] = "settings of the trunk"

    family: str = Field(description="the base network, as `base.name` has it")
    members: tuple[int, ...] | None = Field(None, description="0-based networks of its ensemble; all where absent")
    read_radius: int = Field(READ_RADIUS, ge=0, le=5000, description="bases to either side of the variant")
    site_reach: int = Field(
        SITE_REACH, ge=1, le=5000, description="the exon's sites are read where they lie within so many bases"
    )

    @property
    def positions(self) -> int:
        """Places that are read: acceptor, the variant and what is around it, donor."""
        return 2 * self.read_radius + 3

    @property
    def distance(self) -> int:
        """Positions to either side of the variant that must be scored."""
        return max(self.read_radius, self.site_reach)
