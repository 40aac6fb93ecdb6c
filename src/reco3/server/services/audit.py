"""The audit log, read: every writer adds its rows in its own transaction."""

from reco3.server.domain.audit import RecordedEvent
from reco3.server.services.ports import Outside


class AuditService:
    """What was done, by whom."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    async def newest(
        self, *, event_type: str | None, actor: str | None, before_id: int | None, limit: int
    ) -> list[RecordedEvent]:
        """Audit rows, newest first."""
        return await self._outside.store.read(
            lambda tx: tx.audit.newest(event_type=event_type, actor=actor, before_id=before_id, limit=limit)
        )
