"""The system's error numbers that a service meets; learn.microsoft.com/windows/win32/debug/system-error-codes."""

NO_ERROR = 0
ERROR_SERVICE_CANNOT_ACCEPT_CTRL = 1061
ERROR_FAILED_SERVICE_CONTROLLER_CONNECT = 1063
ERROR_SERVICE_SPECIFIC_ERROR = 1066
