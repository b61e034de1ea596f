"""Finds and ends what an earlier run's server left behind, when its leash was killed together with the daemon.

A pid alone names nobody: it may have been given to another process since. So a process counts only if it is of the
recorded group, of the same boot, and works in this state folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import time
from pathlib import Path

log = logging.getLogger("dreamloop.serve")
FILE = "vllm.pid"
GRACE = 12.0  # seconds from asking to killing; a leash that is alive needs ten to end its own


def record(state_dir: Path, group: int) -> None:
    """Write down the process group of a server that was just started."""
    beside = state_dir / f".{FILE}.new"
    beside.write_text(json.dumps({"group": group, "boot": _boot()}), encoding="utf-8")
    beside.replace(state_dir / FILE)


def recorded(state_dir: Path) -> int | None:
    """The group that was written down in this boot; None when there is none, or no sense in the file."""
    try:
        card = json.loads((state_dir / FILE).read_bytes())
        return int(card["group"]) if card["boot"] == _boot() and int(card["group"]) > 1 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget(state_dir: Path) -> None:
    """Remove what was written down."""
    (state_dir / FILE).unlink(missing_ok=True)


def members(group: int, folder: Path) -> set[int]:
    """The processes of a group that work in `folder`, without those that have ended."""
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it has ended meanwhile, or is another user's
            state, _, its_group = (entry / "stat").read_bytes().rpartition(b")")[2].split()[:3]
            if int(its_group) == group and state != b"Z" and (entry / "cwd").readlink() == folder.resolve():
                found.add(int(entry.name))
    return found


async def end(group: int, folder: Path) -> int:
    """End the group's processes that work in `folder`; how many there were. They are gone when this returns."""
    left = members(group, folder)
    count = len(left)
    deadline = time.monotonic() + GRACE
    asked: set[int] = set()
    while left:
        force = time.monotonic() > deadline
        for pid in left if force else left - asked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if force else signal.SIGTERM)
        asked |= left
        await asyncio.sleep(0.05)
        left = members(group, folder)
    return count


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
