"""What kept frames are called."""

from __future__ import annotations

import datetime as dt
import re

from edge_sdk.records import FrameRecord
from edge_sdk.systems import NOT_IN_NAMES


def folder_name(label: str) -> str:
    """``label`` as the name of one folder; unchanged wherever a file system can hold it."""
    plain = re.sub(f"[{NOT_IN_NAMES}]", "_", label).strip()
    plain = plain.encode("utf-8", "replace")[:120].decode("utf-8", "ignore")
    return f"_{plain}" if not plain or plain.startswith((".", "-")) else plain


def file_name(record: FrameRecord) -> str:
    """``20260314T150926.535Z_0.53_bottle_can_f1234.jpg``: when, how sure, best two, which frame."""
    try:
        when = dt.datetime.fromisoformat(record.ts).astimezone(dt.UTC)
        stamp = f"{when:%Y%m%dT%H%M%S}.{when.microsecond // 1000:03d}Z"
    except (ValueError, OverflowError):
        stamp = re.sub(r"[^0-9A-Za-z.-]", "", record.ts)[:32] or "undated"
    best = "_".join(re.sub(r"[^0-9A-Za-z-]+", "-", ranked.label)[:24] for ranked in record.topk[:2])
    return f"{stamp}_{record.score:.2f}_{best}_f{record.frame}.jpg"
