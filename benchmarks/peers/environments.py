"""Makes a virtual environment for each peer when it is first needed, from its pinned requirements."""

from __future__ import annotations

import subprocess
import sys
import venv
from hashlib import sha256
from pathlib import Path

DRIVERS = Path(__file__).parent
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")


class NoEnvironment(Exception):
    """A peer's environment cannot be made; the reason is for people."""


def python_of(name: str, cache: Path) -> str:
    """The interpreter that runs a peer's driver; oq's own is the one that runs this."""
    if name == "oq":
        return sys.executable
    requirements = DRIVERS / name / "requirements.txt"
    wanted = sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    home = cache / name
    python, stamp = home / "bin" / "python", home / "made-from"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"making an environment for {name}", file=sys.stderr)
        try:
            venv.create(home, clear=True, with_pip=True)
            subprocess.run([python, *PIP, "-r", requirements], check=True)
        except subprocess.CalledProcessError:
            raise NoEnvironment("its requirements could not be installed; see above") from None
        stamp.write_text(wanted)
    return str(python)
