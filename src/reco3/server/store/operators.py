"""The `operators` table: hashes, never keys or passwords."""

from sqlalchemy import Connection, Row, exists, func, insert, or_, select, update

from reco3.server.domain.operators import Account, Role
from reco3.server.store.tables import operator_keys, operators


class OperatorTable:
    """Reads and writes accounts inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def has_any(self) -> bool:
        """Whether anybody can log in."""
        return bool(self._connection.execute(select(exists().select_from(operators))).scalar_one())

    def has_people(self) -> bool:
        """Whether an account that is not disabled has a password or a key: then approvals can have four eyes."""
        has_key = exists().where(operator_keys.c.owner == operators.c.name, operator_keys.c.revoked_at.is_(None))
        is_person = or_(operators.c.password_hash.is_not(None), has_key)
        query = select(exists().where(operators.c.disabled_at.is_(None), is_person))
        return bool(self._connection.execute(query).scalar_one())

    def add(self, account: Account, *, api_key_hash: str | None = None) -> None:
        """Insert an account."""
        row = {
            "name": account.name,
            "role": account.role.value,
            "api_key_hash": api_key_hash,
            "created_at": account.created_at,
            "password_hash": account.password_hash,
            "created_by": account.created_by,
            "disabled_at": account.disabled_at,
        }
        self._connection.execute(insert(operators), [row])

    def get(self, name: str) -> Account | None:
        """The account of that name."""
        return _account(self._connection.execute(select(operators).where(operators.c.name == name)).one_or_none())

    def by_key_hash(self, api_key_hash: str) -> Account | None:
        """The account that holds the key of that hash."""
        query = select(operators).where(operators.c.api_key_hash == api_key_hash)
        return _account(self._connection.execute(query).one_or_none())

    def all(self) -> list[Account]:
        """Every account, in the order of the names."""
        rows = self._connection.execute(select(operators).order_by(operators.c.name))
        return [account for row in rows if (account := _account(row)) is not None]

    def put(self, account: Account) -> None:
        """Replace what may change: role, password and whether it is disabled."""
        values = {
            "role": account.role.value,
            "password_hash": account.password_hash,
            "disabled_at": account.disabled_at,
        }
        self._connection.execute(update(operators).where(operators.c.name == account.name).values(values))

    def count_admins(self) -> int:
        """How many administrators are not disabled."""
        is_admin = operators.c.role == Role.ADMIN.value
        query = select(func.count()).select_from(operators).where(is_admin, operators.c.disabled_at.is_(None))
        return int(self._connection.execute(query).scalar_one())


def _account(row: Row[tuple[object, ...]] | None) -> Account | None:
    if row is None:
        return None
    return Account(row.name, Role(row.role), row.created_at, row.created_by, row.disabled_at, row.password_hash)
