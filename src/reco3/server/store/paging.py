"""The condition that continues a list, newest first, after the last row a reader saw."""

from datetime import datetime

from sqlalchemy import Column, ColumnElement, and_, or_

from reco3.server.services.ports import Cursor


def is_before(ts: Column[datetime], row_id: Column[str], cursor: Cursor) -> ColumnElement[bool]:
    """Rows older than the cursor; rows of the same moment are told apart by their ids."""
    cursor_ts, cursor_id = cursor
    return or_(ts < cursor_ts, and_(ts == cursor_ts, row_id < cursor_id))
