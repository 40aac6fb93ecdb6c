"""Break-glass: uses of sealed commands, recorded with the log line that tells of them, and reviewed by a person."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from reco3.protocol.commands import CommandType
from reco3.server.domain.audit import AuditEvent, agent_actor, user_actor
from reco3.server.domain.break_glass import BREAK_GLASS_CODE, BreakGlassUse, use_of
from reco3.server.domain.errors import Conflict, Forbidden, NotFound
from reco3.server.domain.logs import LogLine
from reco3.server.domain.operators import Operator
from reco3.server.domain.policies import default_terms, terms_for
from reco3.server.services.ports import Cursor, Outside, Transaction

NO_RESULT = "{}"


class BreakGlassService:
    """What people do about sealed commands that were used."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    async def newest(self, *, before: Cursor | None, limit: int) -> list[BreakGlassUse]:
        """Uses, those told last first."""
        return await self._outside.store.read(lambda tx: tx.break_glass.newest(before=before, limit=limit))

    async def review(self, use_id: str, operator: Operator, *, review: str) -> BreakGlassUse:
        """Record what a person found out about a use.

        Raises:
            NotFound: there is no such use.
            Conflict: it was reviewed already.
            Forbidden: four eyes, and the reviewer signed it himself.
        """
        now = self._outside.clock()
        use = await self._outside.store.write(lambda tx: _review(tx, use_id, operator, now, review=review))
        self._outside.announcer.announce("break_glass", use.agent_id)
        return use


def record_uses(tx: Transaction, lines: Iterable[LogLine]) -> None:
    """Record every use that log lines tell of, each once; a later line may bring its result."""
    for line in lines:
        use = use_of(line) if line.code == BREAK_GLASS_CODE else None
        if use is not None:
            _record(tx, use)


def _record(tx: Transaction, use: BreakGlassUse) -> None:
    known = tx.break_glass.get(use.id)
    if known is None:
        tx.break_glass.add(use)
        tx.audit.add([_used_event(use)])
    elif known.agent_id == use.agent_id and known.result_json == NO_RESULT != use.result_json:
        tx.break_glass.put(replace(known, result_json=use.result_json))


def _review(tx: Transaction, use_id: str, operator: Operator, now: datetime, *, review: str) -> BreakGlassUse:
    use = tx.break_glass.get(use_id)
    if use is None:
        raise NotFound("There is no use of break-glass of that id.", code="break_glass_not_found")
    if use.reviewed_at is not None:
        raise Conflict(f"Reviewed already by {use.reviewed_by}.", code="already_reviewed")
    if operator.name in use.owners and _has_four_eyes(tx, use):
        raise Forbidden("You signed this yourself, so somebody else must review it (four eyes).", code="self_approval")
    reviewed = replace(use, reviewed_by=operator.name, reviewed_at=now, review=review)
    tx.break_glass.put(reviewed)
    detail = {"command_type": use.command_type, "review": review}
    event = AuditEvent(now, user_actor(operator.name), "break_glass_reviewed", use.id, use.agent_id, detail)
    tx.audit.add([event])
    return reviewed


def _has_four_eyes(tx: Transaction, use: BreakGlassUse) -> bool:
    has_people = tx.operators.has_people()
    if use.command_type not in set(CommandType):
        return default_terms(has_people=has_people).four_eyes
    policies = tx.policies.all()
    return terms_for(policies, CommandType(use.command_type), use.agent_id, has_people=has_people).four_eyes


def _used_event(use: BreakGlassUse) -> AuditEvent:
    detail = {"command_type": use.command_type, "owners": list(use.owners), "used_at": use.used_at.isoformat()}
    return AuditEvent(use.reported_at, agent_actor(use.agent_id), "break_glass_used", use.id, use.agent_id, detail)
