"""Addresses as they may be shown: without user, password, token or key.

The only module that removes secrets from text; all code that prints an address calls it.
"""

from __future__ import annotations

import re

_PRIVATE_NAMES = "pass|pwd|token|key|secret|auth|user|usr|login|sig|cred|session"
# Up to the last @: a password may contain an @ or a slash that should have been percent-encoded. Slashes
# or the scheme may be missing, as in addresses that are refused for that.
_CREDENTIALS = re.compile(r"(?s)([a-z][a-z0-9+.-]*:/{0,2}).*@", re.IGNORECASE)
_SECRET_VALUE = re.compile(rf"(?i)([?&;][^=&;?]*(?:{_PRIVATE_NAMES})[^=&;]*=)[^&;#\s]*")
# One slash: pathlib drops the other. For these schemes alone, since fake:/x@3 is no address.
# Punctuation at the end of a word belongs to the sentence.
_IN_TEXT = re.compile(
    r"(?<![a-z0-9+.-])(?:[a-z][a-z0-9+.-]*://|(?:rtsps?|https?|mqtts?|tcp|udp):/)"
    r"\S*?(?=[:;,.)'\"]*(?:\s|$))",
    re.IGNORECASE,
)


def redact(url: str) -> str:
    """The URL without user, password, and query parameters named token, key or the like.

    Everything before the last ``@`` counts as credentials, even where a strict parser would read
    part of it as a path: losing a host is better than printing a password.
    """
    return _SECRET_VALUE.sub(r"\1***", _CREDENTIALS.sub(r"\1***@", url))


def holds_secret(url: str) -> bool:
    """Whether ``redact`` removes anything."""
    return redact(url) != url


def redact_text(text: str) -> str:
    """A message in which every address, up to the next space, is redacted."""
    return _IN_TEXT.sub(lambda found: redact(found[0]), text)
