"""What goes wrong while installing: a stable code, what was expected and came, and what to do.

It refuses to carry a secret: whoever raises says what a value should have been, not a key that it was.
"""


class InstallError(Exception):
    """One step cannot be done; the text is for whoever installs."""

    def __init__(self, code: str, found: str, to_do: str) -> None:
        super().__init__(f"{code}: {found}\n  -> {to_do}")
        self.code = code
        self.found = found
        self.to_do = to_do
