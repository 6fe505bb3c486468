"""Which suites there are: what `scripts/prove.py` runs whole, and the tests in part."""

from __future__ import annotations

from collections.abc import Iterator

import engines

from proofs.cancellation import Cancellation
from proofs.interleavings import Interleavings
from proofs.io_faults import IoFaults
from proofs.kills import Kills
from proofs.network import Network
from proofs.power_loss import PowerLoss
from proofs.races import Races
from proofs.runs import Runs
from proofs.server_kills import ServerKills
from proofs.store_machine import Histories
from proofs.suite import Suite

# Each state of a disk that may be found after a power cut is one of very many; so many are drawn for each event.
SUBSETS = 12
# Seeds of a hundred histories each.
SEEDS = {"memory": 100, "sqlite": 10}
SEEDS_ON_A_SERVER = 5
RACES = 10


def every() -> Iterator[Suite]:
    yield IoFaults()
    yield PowerLoss("full", subsets=SUBSETS)
    yield PowerLoss("normal", subsets=SUBSETS)
    for engine in engines.ALL:
        yield Histories(engine, seeds=SEEDS.get(engine, SEEDS_ON_A_SERVER))
        yield Interleavings(engine)
        yield Cancellation(engine)
    for engine in engines.FILES_AND_SERVERS:
        yield Kills(engine)
        yield Races(engine, RACES)
        yield Runs(engine)
    for engine in engines.SERVERS:
        yield Network(engine)
        yield ServerKills(engine)
