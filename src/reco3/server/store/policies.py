"""The `approval_policies` table."""

from typing import Any

from sqlalchemy import Connection, Row, delete, select

from reco3.server.domain.policies import Policy, Terms
from reco3.server.store.tables import approval_policies
from reco3.server.store.upserts import upsert


class PolicyTable:
    """Reads and writes policies inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self) -> list[Policy]:
        """Every policy, in the order of what it is about."""
        query = select(approval_policies).order_by(approval_policies.c.agent_pattern, approval_policies.c.command_type)
        return [_policy(row) for row in self._connection.execute(query)]

    def get(self, policy_id: str) -> Policy | None:
        """The policy of that id."""
        query = select(approval_policies).where(approval_policies.c.id == policy_id)
        row = self._connection.execute(query).one_or_none()
        return _policy(row) if row else None

    def about(self, command_type: str, agent_pattern: str) -> Policy | None:
        """The policy about exactly this type and pattern."""
        query = select(approval_policies).where(
            approval_policies.c.command_type == command_type, approval_policies.c.agent_pattern == agent_pattern
        )
        row = self._connection.execute(query).one_or_none()
        return _policy(row) if row else None

    def put(self, policy: Policy) -> None:
        """Insert a policy, or replace the one of the same id."""
        terms = policy.terms
        row = {
            "id": policy.id,
            "command_type": policy.command_type,
            "agent_pattern": policy.agent_pattern,
            "approvals_required": terms.approvals_required,
            "four_eyes": terms.four_eyes,
            "reason_required": terms.reason_required,
            "lifetime_s": terms.lifetime_s,
            "updated_by": policy.updated_by,
            "updated_at": policy.updated_at,
        }
        self._connection.execute(upsert(self._connection, approval_policies, keep=("org_id",)), [row])

    def remove(self, policy_id: str) -> None:
        """Delete a policy."""
        self._connection.execute(delete(approval_policies).where(approval_policies.c.id == policy_id))


def _policy(row: Row[Any]) -> Policy:
    terms = Terms(row.approvals_required, row.four_eyes, row.reason_required, row.lifetime_s)
    return Policy(row.id, row.command_type, row.agent_pattern, terms, row.updated_by, row.updated_at)
