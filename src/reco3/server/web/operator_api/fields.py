"""Parts of bodies that several routes take."""

from typing import Annotated

from pydantic import Field

from reco3.server.domain.commands import MAX_REASON_CHARS

# Something besides white space, and no NUL, which PostgreSQL does not take.
NOT_BLANK = r"^[^\x00]*[^\s\x00][^\x00]*$"

Reason = Annotated[str, Field(min_length=1, max_length=MAX_REASON_CHARS, pattern=NOT_BLANK)]
