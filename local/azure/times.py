"""Times as Azure writes and reads them."""

import re
from datetime import datetime, timezone

NEVER = datetime.max.replace(tzinfo=timezone.utc)
FRACTION = re.compile(r"(\.\d{1,6})\d*")


def written(time: datetime) -> str:
    """With seven digits after the seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.%f0Z")


def now() -> str:
    return written(datetime.now(timezone.utc))


def moment(text: object) -> datetime:
    """A time with up to seven digits after the seconds, of UTC unless it says otherwise. ValueError for anything else."""
    plain = FRACTION.sub(lambda found: found[1].ljust(7, "0"), str(text)).replace("Z", "+00:00")
    found = datetime.fromisoformat(plain)
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)
