"""Text whose UTF-8 was once read as another encoding (‚Üí for →), put right again."""

from __future__ import annotations

import re

WRONG_ENCODINGS = ("mac_roman", "cp1252", "latin-1")
_STRANGE = re.compile(r"[^\x00-\x7f]+")


def mend(text: str) -> tuple[str, int]:
    """The text with every mangled run of letters put right, and how many there were.

    A run of non-ASCII letters is mended when its bytes in one of the usual wrong encodings are valid UTF-8; a run that
    is right as it stands (an en dash, an emoji) is no valid UTF-8 in any of them and stays.
    """
    count = 0

    def right(found: re.Match[str]) -> str:
        nonlocal count
        for encoding in WRONG_ENCODINGS:
            try:
                mended = found[0].encode(encoding).decode("utf-8")
            except UnicodeError:
                continue
            count += 1
            return mended
        return found[0]

    return _STRANGE.sub(right, text), count
