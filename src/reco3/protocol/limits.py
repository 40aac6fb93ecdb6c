"""Sizes and periods that both sides obey.

Nothing here is a setting: a value that an operator may change lives in the server's settings or the agent's config.
"""

import re

HEARTBEAT_PERIOD_S = 10
LOGS_PERIOD_S = 15
PULL_PERIOD_S = 10
# How long a server that cannot hold more pulls is left alone: its answer to a heartbeat says when something waits.
LEFT_ALONE_S = 300

MAX_BODY_BYTES = 1024 * 1024
MAX_LOGS_BODY_BYTES = 4 * 1024 * 1024
MAX_PULL_WAIT_S = 30
MAX_COMMANDS_PER_PULL = 20

MAX_LOG_ENTRIES_PER_BATCH = 500
MAX_LOG_MESSAGE_CHARS = 16_384
MAX_LOG_CODE_CHARS = 128
MAX_PROCESSES = 200

MAX_COMMAND_ID_CHARS = 64
MAX_PAYLOAD_BYTES = 8 * 1024
MAX_RESULT_BYTES = 64 * 1024

JOURNAL_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")
AGENT_ID_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,64}")
PROCESS_NAME_PATTERN = re.compile(r"[A-Za-z0-9._@+ -]{1,128}")
ENDPOINT_PATTERN = re.compile(r"/[A-Za-z0-9._~/-]{0,255}")


def is_agent_id(text: str) -> bool:
    """Whether `text` can name a PC: 1 to 64 of letters, digits, dot, underscore and hyphen."""
    return AGENT_ID_PATTERN.fullmatch(text) is not None
