"""The directory that tasks may not leave."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from attrs import frozen


class OutOfBounds(ValueError):
    """A name does not stand for anything inside the directory; the message is a sentence for people."""


@frozen
class Directory:
    """The one directory in which tasks may name files and working directories."""

    path: Path
    """Absolute. It may be a symbolic link, and may point elsewhere tomorrow: it is followed anew each time."""

    def locate(self, name: str) -> Path:
        """The real path, every link followed, of what `name` stands for here; it need not exist.

        Use that path from then on, never the name: a link that is bent afterwards bends nothing. (Someone who can put a
        link in the place of a real directory in here could have written a script there.)

        Raises OutOfBounds when the name is empty or absolute, climbs with `..`, or leads out by a link.
        """
        if not name or "\0" in name:
            raise OutOfBounds("must be a path inside the script directory")
        pure = PurePosixPath(name)
        if pure.is_absolute():
            raise OutOfBounds(f"{name!r} is absolute; give a path inside the script directory")
        if ".." in pure.parts:
            raise OutOfBounds(f"{name!r} contains '..'; give a path inside the script directory")
        root = Path(os.path.realpath(self.path))
        real = Path(os.path.realpath(root / name))
        if not real.is_relative_to(root):
            raise OutOfBounds(f"{name!r} is a symbolic link that leads out of the script directory")
        return real
