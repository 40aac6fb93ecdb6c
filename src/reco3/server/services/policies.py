"""Policies: read, set and removed by an administrator, each change with its audit row.

Switching four eyes off leaves a row of its own, so that nobody does it unseen.
"""

from dataclasses import dataclass, replace

from reco3.server.domain.audit import AuditEvent, user_actor
from reco3.server.domain.errors import NotFound
from reco3.server.domain.operators import Operator
from reco3.server.domain.policies import Policy, Terms, check_policy, default_terms
from reco3.server.services.ports import Outside, Transaction


@dataclass(frozen=True, slots=True)
class PolicyBook:
    """Every policy, and what holds where none does."""

    policies: tuple[Policy, ...]
    default: Terms


class PolicyService:
    """What it takes to approve which command where."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    async def read(self) -> PolicyBook:
        """Every policy, and what holds where none does."""

        def query(tx: Transaction) -> PolicyBook:
            return PolicyBook(tuple(tx.policies.all()), default_terms(has_people=tx.operators.has_people()))

        return await self._outside.store.read(query)

    async def put(self, command_type: str, agent_pattern: str, terms: Terms, operator: Operator) -> Policy:
        """Set the policy about a command type and a pattern; commands that wait keep the terms that they came under.

        Raises:
            BadInput: it could never hold.
        """
        wanted = Policy(
            self._outside.new_id(), command_type, agent_pattern, terms, operator.name, self._outside.clock()
        )
        check_policy(wanted)
        policy = await self._outside.store.write(lambda tx: _put(tx, wanted))
        self._outside.announcer.announce("policies", "")
        return policy

    async def remove(self, policy_id: str, operator: Operator) -> None:
        """Remove a policy.

        Raises:
            NotFound: there is none of that id.
        """
        now = self._outside.clock()

        def work(tx: Transaction) -> None:
            known = tx.policies.get(policy_id)
            if known is None:
                raise NotFound("There is no policy of that id.", code="policy_not_found")
            tx.policies.remove(policy_id)
            removal = replace(known, updated_by=operator.name, updated_at=now)
            tx.audit.add([_event("policy_changed", removal, before=known.terms, after=None)])

        await self._outside.store.write(work)
        self._outside.announcer.announce("policies", "")


def _put(tx: Transaction, wanted: Policy) -> Policy:
    known = tx.policies.about(wanted.command_type, wanted.agent_pattern)
    policy = wanted if known is None else replace(wanted, id=known.id)
    before = known.terms if known is not None else None
    tx.policies.put(policy)
    events = [_event("policy_changed", policy, before=before, after=policy.terms)]
    if not policy.terms.four_eyes and (before is None or before.four_eyes):
        events.append(_event("four_eyes_disabled", policy, before=before, after=policy.terms))
    tx.audit.add(events)
    return policy


def _event(event_type: str, policy: Policy, *, before: Terms | None, after: Terms | None) -> AuditEvent:
    detail = {
        "command_type": policy.command_type,
        "agent_pattern": policy.agent_pattern,
        "from": _facts(before),
        "to": _facts(after),
    }
    return AuditEvent(policy.updated_at, user_actor(policy.updated_by), event_type, policy.id, payload=detail)


def _facts(terms: Terms | None) -> dict[str, object] | None:
    if terms is None:
        return None
    return {
        "approvals_required": terms.approvals_required,
        "four_eyes": terms.four_eyes,
        "reason_required": terms.reason_required,
        "lifetime_s": terms.lifetime_s,
    }
