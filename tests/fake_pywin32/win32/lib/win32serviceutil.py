"""pywin32's `ServiceFramework`, as far as a class that brings its own `SvcRun` uses it.

Source: its documentation, and the signatures of types-pywin32, which the service itself is type-checked against.
"""

import servicemanager
import win32service

_NO_CHECKPOINT = (win32service.SERVICE_RUNNING, win32service.SERVICE_STOPPED)


class ServiceFramework:
    """Registers the control handler, calls a method for each control, and reports statuses with counted checkpoints."""

    _svc_name_ = ""

    def __init__(self, args: list[str]) -> None:
        self.ssh = servicemanager.RegisterServiceCtrlHandler(args[0], self.ServiceCtrlHandlerEx, extra_args=True)
        servicemanager.SetEventSourceName(self._svc_name_)
        self.checkPoint = 0

    def GetAcceptedControls(self) -> int:  # noqa: N802 - pywin32's name
        """Accept what there are methods for."""
        methods = {
            "SvcStop": win32service.SERVICE_ACCEPT_STOP,
            "SvcPause": win32service.SERVICE_ACCEPT_PAUSE_CONTINUE,
            "SvcShutdown": win32service.SERVICE_ACCEPT_SHUTDOWN,
        }
        return sum(bit for name, bit in methods.items() if hasattr(self, name))

    def ReportServiceStatus(  # noqa: N802 - likewise
        self,
        serviceStatus: int,  # noqa: N803 - likewise
        waitHint: int = 5000,  # noqa: N803 - likewise
        win32ExitCode: int = 0,  # noqa: N803 - likewise
        svcExitCode: int = 0,  # noqa: N803 - likewise
    ) -> None:
        """Report a state; every pending one counts one checkpoint on."""
        is_starting = serviceStatus == win32service.SERVICE_START_PENDING
        accepts = 0 if is_starting else self.GetAcceptedControls()
        self.checkPoint += serviceStatus not in _NO_CHECKPOINT
        checkpoint = 0 if serviceStatus in _NO_CHECKPOINT else self.checkPoint
        own_process = win32service.SERVICE_WIN32_OWN_PROCESS
        status = (own_process, serviceStatus, accepts, win32ExitCode, svcExitCode, checkpoint, waitHint)
        win32service.SetServiceStatus(self.ssh, status)

    def SvcInterrogate(self) -> None:  # noqa: N802 - likewise
        """Claim to be running, whatever is true."""
        self.ReportServiceStatus(win32service.SERVICE_RUNNING)

    def ServiceCtrlHandlerEx(self, control: int, _event_type: int, _data: object) -> None:  # noqa: N802 - likewise
        """Call the method for a control."""
        names = {
            win32service.SERVICE_CONTROL_STOP: "SvcStop",
            win32service.SERVICE_CONTROL_INTERROGATE: "SvcInterrogate",
            win32service.SERVICE_CONTROL_SHUTDOWN: "SvcShutdown",
        }
        getattr(self, names[control])()
