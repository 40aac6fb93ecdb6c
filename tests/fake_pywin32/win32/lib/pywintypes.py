"""The exception of all of pywin32, as its documentation has it: `(winerror, funcname, strerror)`."""


class error(Exception):  # noqa: N801 - pywin32's name
    """A call of the system's that failed."""

    def __init__(self, winerror: int, funcname: str, strerror: str) -> None:
        super().__init__(winerror, funcname, strerror)
        self.winerror = winerror
        self.funcname = funcname
        self.strerror = strerror
