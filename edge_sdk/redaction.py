"""Addresses as they may be shown: without user, password, token or key.

The one place where secrets are taken out of text; whatever prints an address calls it.
"""

from __future__ import annotations

import re

_TELLTALES = "pass|pwd|token|key|secret|auth|user|usr|login|sig|cred|session"
# Up to the last @: a password may hold an @ or a slash that should have been percent-encoded. Slashes
# or the scheme may be missing, as in what is refused for that.
_CREDENTIALS = re.compile(r"(?s)([a-z][a-z0-9+.-]*:/{0,2}).*@", re.IGNORECASE)
_SECRET_VALUE = re.compile(rf"(?i)([?&;][^=&;?]*(?:{_TELLTALES})[^=&;]*=)[^&;#\s]*")
# One slash: a path made of an address has lost the other. Such a scheme alone, since fake:/x@3 is none.
# Marks at the end of a word belong to the sentence.
_IN_TEXT = re.compile(
    r"(?<![a-z0-9+.-])(?:[a-z][a-z0-9+.-]*://|(?:rtsps?|https?|mqtts?|tcp|udp):/)"
    r"\S*?(?=[:;,.)'\"]*(?:\s|$))",
    re.IGNORECASE,
)


def redact(url: str) -> str:
    """The URL without user, password, and what its query calls a token, key or the like.

    What stands before the last ``@`` is taken for credentials, even where a stricter reader would
    take some of it for a path: better a host too few than a password too many.
    """
    return _SECRET_VALUE.sub(r"\1***", _CREDENTIALS.sub(r"\1***@", url))


def holds_secret(url: str) -> bool:
    """Whether ``redact`` takes something out of it."""
    return redact(url) != url


def redact_text(text: str) -> str:
    """A message in which every address, up to the next space, is redacted."""
    return _IN_TEXT.sub(lambda found: redact(found[0]), text)
