"""The `command_comments` table: what people said about commands."""

from dataclasses import asdict

from sqlalchemy import Connection, func, insert, select

from reco3.server.domain.approvals import Comment
from reco3.server.store.tables import command_comments

_columns = [command_comments.c[name] for name in Comment.__dataclass_fields__]


class CommentTable:
    """Adds and reads comments inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, comment: Comment) -> None:
        """Insert a comment."""
        self._connection.execute(insert(command_comments), [asdict(comment)])

    def of(self, command_id: str) -> list[Comment]:
        """What was said about a command, oldest first."""
        query = select(*_columns).where(command_comments.c.command_id == command_id)
        rows = self._connection.execute(query.order_by(command_comments.c.created_at, command_comments.c.id))
        return [Comment(*row) for row in rows]

    def count_of(self, command_id: str) -> int:
        """How often somebody commented on a command."""
        query = select(func.count()).select_from(command_comments).where(command_comments.c.command_id == command_id)
        return int(self._connection.execute(query).scalar_one())
