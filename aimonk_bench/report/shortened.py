"""Text without the paths of the machine on which it was written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# A path from the root, a drive or a home folder: what stands before its last part says where a machine keeps things.
_PATH = re.compile(r"(?:file://|(?<![\w./~\\]))(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\'\"`,;:()\[\]{}<>|]+[/\\]+)+")


def shortened(value: Any) -> Any:
    """The same text, list or map, in which a path from the root is its last part.

    >>> shortened("/home/anna/data/labels.txt:3: found 'x'"), shortened("runs/a/b"), shortened("https://a.org/b/c")
    ("labels.txt:3: found 'x'", 'runs/a/b', 'https://a.org/b/c')
    """
    if isinstance(value, Mapping):
        return {key: shortened(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shortened(item) for item in value]
    return _PATH.sub("", value) if isinstance(value, str) else value
