"""MySQL 8.0.17+ and MariaDB 10.6+ behind the two verbs.

The threads and lines are in `server`, what a line does with batches and errors in `mysql_line`, the driver in
`mysql_wire`, values in `mysql_text`, options in `mysql_settings`. Without the driver, importing this says which extra to install.
"""

from __future__ import annotations

from functools import partial

from power_loop.store.dsn import Dsn
from power_loop.store.mysql_dialect import MysqlDialect
from power_loop.store.mysql_line import MysqlLine
from power_loop.store.mysql_settings import Settings
from power_loop.store.mysql_wire import Address
from power_loop.store.server import ServerDatabase


class MysqlDatabase(ServerDatabase):
    """The database that ``dsn`` names; nothing is connected before the first verb.

    ``lock_wait_s`` bounds the wait for rows that others hold. Raises ValueError for an option that makes no sense.
    """

    dialect: MysqlDialect = MysqlDialect()

    def __init__(self, dsn: Dsn, *, lock_wait_s: int = 10) -> None:
        settings = Settings.of(dsn, lock_wait_s)
        super().__init__(f"MySQL at {settings.place}", partial(MysqlLine, Address(settings)), settings.pool_max)
