"""What Home Assistant must be told to show a device by itself.

https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from edge_sdk.sinks.version import version


def object_id(device: str) -> str:
    """``device`` in the letters that Home Assistant takes in an id: ``a-z A-Z 0-9 _ -``.

    A name that had to be changed gets a hash of what it was, so that two of them stay two.
    """
    plain = re.sub(r"[^a-zA-Z0-9_-]", "_", device)[:48]
    if plain == device:
        return plain
    return f"{plain}_{hashlib.sha256(device.encode('utf-8', 'replace')).hexdigest()[:6]}"


def topic_level(device: str) -> str:
    """``device`` as one level of a topic, which takes no ``/``, ``+``, ``#`` or control character."""
    return re.sub(r"[/+#\x00-\x1f\x7f-\x9f\ud800-\udfff]", "_", device).lstrip("$") or "edgecls"


def discovery(device: str, base: str) -> dict[str, str]:
    """The retained messages that make the device appear, as ``{topic: JSON}``.

    Args:
        device: its name.
        base: of its topics: ``base/frame``, ``base/health`` and ``base/status``.
    """
    name = object_id(device)
    about = {
        "identifiers": [f"edgecls_{name}"],
        "name": device.encode("utf-8", "replace").decode(),
        "manufacturer": "edgecls",
        "model": "image classifier",
        "sw_version": version(),
    }
    sensors: dict[str, dict[str, Any]] = {
        "label": {
            "name": "Label",
            "icon": "mdi:image-search",
            # A state may have 255 characters; the attributes would be stored for every frame.
            "value_template": "{{ (value_json.label or 'unknown') | string | truncate(250) }}",
        },
        "score": {
            "name": "Score",
            "icon": "mdi:percent-outline",
            "unit_of_measurement": "%",
            "state_class": "measurement",
            "value_template": "{{ (value_json.score * 100) | round(1) }}",
        },
        "inference": {
            "name": "Inference",
            "device_class": "duration",
            "unit_of_measurement": "ms",
            "entity_category": "diagnostic",
            "enabled_by_default": False,
            "value_template": "{{ value_json.latency_ms.inference | round(1) }}",
        },
    }
    return {
        f"homeassistant/sensor/edgecls_{name}/{key}/config": json.dumps(
            {
                **sensor,
                "unique_id": f"edgecls_{name}_{key}",
                "state_topic": f"{base}/frame",
                "availability_topic": f"{base}/status",
                "device": about,
                "origin": {"name": "edgecls", "sw_version": version()},
            },
            ensure_ascii=False,
        )
        for key, sensor in sensors.items()
    }
