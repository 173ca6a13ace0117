"""The store under torture: processes killed at chosen moments, disks cut short, bits flipped, disks full.

`python -m torture kills --each 100` from `tests/`, or `make torture`, runs the long form; `tests/test_torture.py` the
short one. Every campaign prints what it did, and fails by the promises of DESIGN.md §4 that did not hold.
"""
