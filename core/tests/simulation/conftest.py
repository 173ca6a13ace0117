"""Lets pytest find the package `simulation` under the name by which its modules know one another."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
