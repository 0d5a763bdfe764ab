"""The shape of hardware.yaml: what rented machines cost, by whom and as of when. It loads pydantic, see
``config/schema.py``.
"""

from __future__ import annotations

import datetime
from typing import Annotated

from pydantic import Field

from playground.config.schema import Block, Count, Text, Url


class TierBlock(Block):
    flavor: Text
    name: Text
    vcpu: Count
    memory_gb: Count
    per_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    note: Text = ""


class PriceFile(Block):
    source: Url
    as_of: datetime.date
    currency: Text
    tiers: Annotated[list[TierBlock], Field(min_length=1)]
