"""The writer's page cache grows with the fleet, in steps, up to a limit."""

from sqlalchemy import Connection, create_engine

from reco3.server.store.page_cache import KIB_PER_PC, LEAST_KIB, MOST_KIB, STEP_KIB, PageCache


def size_kib(connection: Connection) -> int:
    return -int(connection.exec_driver_sql("PRAGMA cache_size").scalar_one())


def test_it_grows_in_steps_never_shrinks_and_ends_at_its_limit() -> None:
    cache = PageCache()
    with create_engine("sqlite://").connect() as connection:
        connection.exec_driver_sql(f"PRAGMA cache_size=-{LEAST_KIB}")
        sizes = []
        for pcs in (0, STEP_KIB // KIB_PER_PC - 1, STEP_KIB // KIB_PER_PC, 20_000, 0, 230_000, 240_000, 5_000_000):
            cache.fit(connection, pcs=pcs)
            sizes.append(size_kib(connection))

    first_step, of_20_000, of_230_000 = LEAST_KIB + STEP_KIB, LEAST_KIB + 40_000, LEAST_KIB + 460_000
    assert sizes == [LEAST_KIB, LEAST_KIB, first_step, of_20_000, of_20_000, of_230_000, LEAST_KIB + 480_000, MOST_KIB]
