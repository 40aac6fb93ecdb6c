"""What every command's function is given, and how it says that it failed.

It refuses to know what any command does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reco3.agent import runner
from reco3.agent.config import ControlConfig
from reco3.agent.journal import Ending, Journal
from reco3.agent.waiting import Stopwatch


@dataclass(frozen=True, slots=True)
class Job:
    """One command being carried out; `now_utc` is RFC 3339, `before` what the journal holds of the world before it.

    `when_running` is called whenever a process of it has been started.
    """

    command_id: str
    now_utc: str
    control: ControlConfig
    journal: Journal
    run: Callable[[runner.Run], runner.Outcome] = runner.run
    watch: Stopwatch = field(default_factory=Stopwatch)
    before: Mapping[str, Any] | None = None
    when_running: Callable[[], None] = lambda: None

    def run_argv(self, argv: tuple[str, ...], timeout_s: float) -> runner.Outcome:
        """Run one argv for this command."""
        return self.run(
            runner.Run(
                argv,
                timeout_s,
                self.control.max_output_bytes,
                command_id=self.command_id,
                when_started=self.when_running,
            )
        )


def failed(code: str, error: str, **more: Any) -> Ending:
    """An ending that says what went wrong."""
    return Ending(is_success=False, result={"success": False, "error": error, "code": code, **more})


def succeeded(output: str, **more: Any) -> dict[str, Any]:
    """The result of what went well."""
    return {"success": True, "output": output, **more}
