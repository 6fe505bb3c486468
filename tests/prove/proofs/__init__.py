"""The suites that hurt the store on purpose: each is a list of cases, and each case says what it violated.

`scripts/prove.py` runs all cases of all suites; the tests beside this package run a seeded sample of each, and show
that each suite fails on the mutation that it is there for (`mutations`).
"""
