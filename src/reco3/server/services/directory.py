"""The directory: what role a name holds at this moment.

`admin` needs no account where `API_KEY` or the test mode makes one up: then the settings are its account.
"""

from reco3.server.domain.operators import ADMIN, Role
from reco3.server.services.ports import Transaction


class Directory:
    """Looks names up, live, for whoever decides by a role."""

    def __init__(self, *, has_built_in_admin: bool) -> None:
        self._has_built_in_admin = has_built_in_admin

    def is_built_in(self, name: str) -> bool:
        """Whether the settings are this name's account."""
        return self._has_built_in_admin and name == ADMIN

    def role_of(self, tx: Transaction, name: str) -> Role | None:
        """The role that a name holds now, or None when it has no account or a disabled one."""
        if self.is_built_in(name):
            return Role.ADMIN
        account = tx.operators.get(name)
        return None if account is None or account.disabled_at is not None else account.role

    def count_admins(self, tx: Transaction) -> int:
        """How many administrators can log in."""
        return tx.operators.count_admins() + self._has_built_in_admin
