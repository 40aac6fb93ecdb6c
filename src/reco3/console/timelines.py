"""One command's life as lines of text: each step with its time, who did it, and the PC's evidence.

It refuses to tidy up: contradicting reports are all shown, and what is unknown is called so.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from reco3.console.tables import payload_text, person, standing
from reco3.console.texts import value_text, visible, visible_lines
from reco3.console.times import between, clock_text, duration_text, epoch_text

Json = dict[str, Any]
DEEPEST = 4
INDENT = " " * 35
UNKNOWN = "We do not know whether it ran."
EVIDENCE_ORDER = ("error", "code", "exit_code", "duration_ms", "verification", "before", "after")
RESULT_NAMES = frozenset({*EVIDENCE_ORDER, "success", "output", "evidence", "rolled_back", "rollback"})
# What the server notes with a step and is said elsewhere here.
SAID_ELSEWHERE = frozenset({"type", "payload", "approval_id", "command_ids", "requested_by", "journal", "result"})

_titles: Mapping[str, str] = {
    "requested": "asked for",
    "approved": "approved",
    "delivered": "sent to the PC",
    "redelivered": "sent again, as a question: what became of it?",
    "accepted": "accepted by the PC",
    "running": "begun on the PC",
    "completed": "completed",
    "failed": "failed",
    "rejected": "rejected",
    "unknown": "WE DO NOT KNOW WHETHER IT RAN",
    "cancel_requested": "cancel requested",
    "cancelled": "cancelled; it did not run",
    "expired": "expired; it did not run",
    "resolved": "resolved by a person",
    "report_conflict": "THE PC REPORTED SOMETHING ELSE",
    "orphan_report": "reported while this server did not know the command",
}
_verdicts: Mapping[str, str] = {
    "taken": "recorded",
    "repeated": "said again, changes nothing",
    "conflict": "CONTRADICTS what is recorded; kept as evidence",
    "orphan": "came while this server did not know the command",
}


def timeline_lines(command: Json) -> Iterator[str]:
    """Everything that is known about one command."""
    yield from _head_lines(command)
    yield ""
    previous: object = None
    for entry in _objects(command.get("timeline")):
        yield from _entry_lines(entry, previous, command)
        previous = entry.get("at")
    reports = _objects(command.get("reports"))
    if reports:
        yield ""
        yield "What the PC reported:"
    for report in reports:
        yield from _report_lines(report)
    if command.get("status") == "unknown":
        yield ""
        yield f"{UNKNOWN} Look at the PC, then record what you found:"
        yield f'  reco3 commands resolve {visible(command.get("id"))} ran|did-not-run --reason "how you know"'
        yield "Nothing is run again; a new command needs a new approval."


def _head_lines(command: Json) -> Iterator[str]:
    yield f"{visible(command.get('type'))} {payload_text(command)}".rstrip() + f" on {visible(command.get('agent_id'))}"
    status = f"{visible(command.get('status'))} ({visible(command.get('strength'))})"
    now_standing = standing(command, command.get("now"))
    yield f"  status   {status}{': ' + now_standing if now_standing else ''}"
    yield f"  id       {visible(command.get('id'))}"
    if command.get("reason"):
        yield f"  reason   {visible(command['reason'])}"
    if command.get("status") == "pending" and command.get("expires_at"):
        yield f"  expires  {clock_text(command['expires_at'])}"
    resolution = command.get("resolution")
    if isinstance(resolution, dict):
        finding = "it ran" if resolution.get("outcome") == "ran" else "it did not run"
        who = person(resolution.get("resolved_by"))
        yield f"  resolved {who} found that {finding}: {visible(resolution.get('reason'))}"


def _entry_lines(entry: Json, previous: object, command: Json) -> Iterator[str]:
    gap_s = between(previous, entry.get("at"))
    gap = f"+{duration_text(gap_s)}" if gap_s is not None and gap_s >= 0 else ""
    event = str(entry.get("event"))
    title = _titles.get(event, visible(event))
    # What the command's own PC did needs no name; everything else does.
    actor = "" if entry.get("actor") == f"agent:{command.get('agent_id')}" else f" by {person(entry.get('actor'))}"
    yield f"{clock_text(entry.get('at'))}{gap:>14}  {title}{actor}"
    for line in (*_step_facts(entry, command), *_evidence_lines(_step_result(entry, command))):
        yield INDENT + line


def _step_facts(entry: Json, command: Json) -> Iterator[str]:
    detail = entry.get("detail")
    facts = dict(detail) if isinstance(detail, dict) else {}
    status, ended = facts.pop("status", None), facts.pop("ended", None)
    if entry.get("event") == "report_conflict":
        yield f"it says {visible(status)}; recorded is {visible(ended)}"
    if isinstance(until := facts.pop("expires_at", None), str):
        yield f"it may begin until {clock_text(until)}"
    if entry.get("event") == "approved" and command.get("expect"):
        facts["expect"] = command["expect"]
    yield from _fact_lines({name: facts[name] for name in facts if name not in RESULT_NAMES | SAID_ELSEWHERE})


def _step_result(entry: Json, command: Json) -> Json:
    """The report that made this step, else what its detail says of a result."""
    for report in _objects(command.get("reports")):
        if report.get("received_at") == entry.get("at") and report.get("verdict") == "taken":
            return report["result"] if isinstance(report.get("result"), dict) else {}
    detail = entry.get("detail")
    if not isinstance(detail, dict):
        return {}
    if isinstance(detail.get("result"), dict):
        return dict(detail["result"])
    return {name: value for name, value in detail.items() if name in RESULT_NAMES}


def _report_lines(report: Json) -> Iterator[str]:
    verdict = str(report.get("verdict"))
    said = f"{visible(report.get('status'))}: {_verdicts.get(verdict, visible(verdict))}"
    yield f"{clock_text(report.get('received_at'))}{'':>14}  {said}"
    result = report.get("result")
    if isinstance(result, dict):
        yield from (INDENT + line for line in _evidence_lines(result))


def _evidence_lines(result: Json, *, is_rollback: bool = False) -> Iterator[str]:
    inner = result.get("evidence")
    known = {**result, **(inner if isinstance(inner, dict) else {})}
    output, verification, rollback = (known.pop(name, None) for name in ("output", "verification", "rollback"))
    for name in ("success", "evidence"):
        known.pop(name, None)
    after = known.get("after")
    if isinstance(after, dict):
        verification = verification or after.get("verification")
        known["after"] = {name: value for name, value in after.items() if name != "verification"}
    ordered = {name: known.pop(name) for name in EVIDENCE_ORDER if name in known}
    yield from _fact_lines({**ordered, **known})
    yield from _check_lines(verification)
    if output:
        yield "output:"
        text = output if isinstance(output, str) else value_text(output)
        yield from (f"  | {line}" for line in visible_lines(text).rstrip("\n").split("\n"))
    if isinstance(rollback, dict) and not is_rollback:
        yield "what the PC did by itself to roll back:"
        yield from (f"  {line}" for line in _evidence_lines(rollback, is_rollback=True))


def _fact_lines(facts: Json) -> Iterator[str]:
    for name, value in facts.items():
        if value is not None and value not in ("", {}):
            yield f"{_name_text(name)}: {_fact_text(name, value)}"


def _name_text(name: str) -> str:
    return visible(name.removesuffix("_ms") if name.endswith("_time_ms") else name)


def _fact_text(name: str, value: object, depth: int = 0) -> str:
    if depth > DEEPEST:
        return "…"
    if isinstance(value, dict):
        return ", ".join(f"{_name_text(one)} {_fact_text(one, inner, depth + 1)}" for one, inner in value.items())
    if isinstance(value, list):
        return ", ".join(_fact_text(name, one, depth + 1) for one in value) or "none"
    if name.endswith("_time_ms") and isinstance(value, int | float):
        return epoch_text(value)
    return value_text(value)


def _check_lines(verification: object) -> Iterator[str]:
    listed = verification.get("checks") if isinstance(verification, dict) else verification
    for check in _objects(listed):
        passed = check.get("passed", check.get("ok"))
        verdict = (
            {True: "held", False: "FAILED"}.get(passed, "not checked") if isinstance(passed, bool) else "not checked"
        )
        message = check.get("message", check.get("detail"))
        said = f": {visible(message)}" if message else ""
        yield f"check {value_text(check.get('check', check.get('name', '')))} {verdict}{said}"


def _objects(value: object) -> list[Json]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
