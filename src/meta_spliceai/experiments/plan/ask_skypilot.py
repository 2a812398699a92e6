"""Ask SkyPilot for its catalogues; run by the Python that has SkyPilot, which need not be ours.

Arguments: hours after which a catalogue counts as old, then providers. Prints one JSON object: for each provider the
catalogue's file and the day it was fetched, or why there is none. Nothing of this package is imported here.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime


def ask(provider: str, hours: int) -> dict[str, str]:
    """One provider's catalogue, renewed by SkyPilot itself if it is old.

    Where a renewal fails, SkyPilot goes on with the file it has and sets the file's date to today. Its prices are as
    old as before, so the day is taken from what SkyPilot wrote when it last fetched them, or from the file as it was
    before asking.
    """
    import requests
    from sky.catalog import common

    name = f"{provider}/vms.csv"
    path = common.get_catalog_path(name)
    before = os.path.getmtime(path) if os.path.exists(path) else None
    try:
        _ = common.read_catalog(name, pull_frequency_hours=hours).columns  # read, and renewed, when first looked at
    except (requests.RequestException, OSError, ValueError) as error:
        return {"error": " ".join(str(error).split())[:200]}
    fetched = os.path.join(os.path.dirname(os.path.dirname(path)), ".meta", f"{name}.md5")
    known = os.path.exists(fetched) and not common.is_catalog_modified(name)
    seconds = os.path.getmtime(fetched) if known else before
    if seconds is None:
        seconds = os.path.getmtime(path)
    return {"file": path, "day": datetime.fromtimestamp(seconds, UTC).date().isoformat()}


if __name__ == "__main__":
    hours, *providers = sys.argv[1:]
    print(json.dumps({provider: ask(provider, int(hours)) for provider in providers}))
