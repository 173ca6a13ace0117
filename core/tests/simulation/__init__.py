"""The whole queue on seeded chance and virtual time, under faults, held against the promises of DESIGN.md.

`python core/tests/simulation --seed 7 --count 1000` runs many seeds; a seed that fails once fails always, in the same
way, so its number is all that a bug report needs.
"""
