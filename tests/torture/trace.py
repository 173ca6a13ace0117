"""What a store really asks of the disk: its writes and syncs, recorded by strace in their order."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

TORTURE = Path(__file__).parent
CALLS = (
    "openat,close,lseek,write,writev,pwrite64,pwritev,pwritev2,"
    "fdatasync,fsync,msync,sync_file_range,ftruncate,fallocate"
)


@frozen
class Write:
    """Bytes handed to the operating system, which may keep them from the disk until the next sync."""

    offset: int
    data: bytes
    synced: bool
    """Whether it returned only when they were on the disk."""


@frozen
class Sync:
    """All bytes written before are on the disk."""


@frozen
class Mark:
    """An answer was given: what it said must be durable."""


Step = Write | Sync | Mark


def reason_to_skip() -> str | None:
    """Why nothing can be recorded here; None where it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-e", "trace=none", "true"], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"strace may not trace here: {tried.stderr.strip()}"


def record(place: Path, seed: int, steps: int, durability: str, plant: str) -> list[Step]:
    """Run the scribe in `place`, and give what it did to the data file."""
    log = place / "trace"
    strace = ["strace", "-f", "-xx", "-s", "100000000", "-e", f"trace={CALLS}", "-e", "signal=none", "-o", str(log)]
    scribe = [sys.executable, "-m", "torture.scribe", str(place), str(seed), str(steps), durability, plant]
    subprocess.run([*strace, *scribe], check=True, cwd=TORTURE.parent)
    return list(_parse(log))


_LINE = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


def _parse(log: Path) -> Iterator[Step]:
    """The steps of the first process in the log, which has one thread; others are helpers of Python's start."""
    data: dict[int, bool] = {}
    """Descriptors of the data file, and whether writes to them are synchronous."""
    positions: dict[int, int] = {}
    marks: set[int] = set()
    for line in _lines_of_first(log):
        found = _LINE.match(line)
        if found is None:
            continue
        call, arguments, answer = found[1], found[2], int(found[3])
        if answer < 0:
            continue
        if call == "openat":
            path = _bytes(arguments)[0]
            data.pop(answer, None)
            marks.discard(answer)
            if path.endswith(b"/data.mdb"):
                data[answer], positions[answer] = "O_DSYNC" in arguments, 0
            elif path.endswith(b"/marks"):
                marks.add(answer)
            continue
        descriptor = int(arguments.partition(",")[0])
        if call == "write" and descriptor in marks:
            yield Mark()
        if descriptor not in data:
            continue
        match call:
            case "close":
                del data[descriptor]
            case "lseek":
                positions[descriptor] = answer
            case "write" | "writev":
                yield Write(positions[descriptor], b"".join(_bytes(arguments))[:answer], data[descriptor])
                positions[descriptor] += answer
            case "pwrite64" | "pwritev" | "pwritev2":
                offset = int(arguments.rpartition(",")[2])
                yield Write(offset, b"".join(_bytes(arguments))[:answer], data[descriptor])
            case "fdatasync" | "fsync":
                yield Sync()
            case _:
                raise ValueError(f"the store does what the simulated disk does not know: {call}({arguments[:100]})")


def _lines_of_first(log: Path) -> Iterator[str]:
    """Its lines, those that others interrupted put together again."""
    first, begun = "", ""
    for line in log.open():
        pid, _, said = line.partition(" ")
        first = first or pid
        if pid != first:
            continue
        if said.endswith("<unfinished ...>\n"):
            begun = line.removesuffix("<unfinished ...>\n")
        elif (resumed := said.partition(" resumed>")) and resumed[1]:
            yield begun + resumed[2]
        else:
            yield line


def _bytes(arguments: str) -> list[bytes]:
    return [bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(arguments)]
