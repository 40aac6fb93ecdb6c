"""Edits the list of pinned keys in the text of a config, so that comments and everything else stay as they are.

It refuses to be believed: whoever edits reads the new text as a config and compares, before it replaces the old one.
"""

import json
from typing import Any

from reco3.signing.pins import Pin, key_text

INDENT = "  "


def item_text(pin: Pin) -> str:
    """One entry of `control.approvers`, as YAML and as JSON."""
    fields = {"owner": pin.owner, "kind": str(pin.kind), "key": key_text(pin.key)}
    if pin.origin is not None:
        fields["origin"] = pin.origin
    return "{" + ", ".join(f"{name}: {json.dumps(value)}" for name, value in fields.items()) + "}"


def with_pin(text: str, pin: Pin) -> str:
    """The text with one more entry at the end of the list."""
    lines = _Lines(text)
    control = lines.child(lines.root, "control")
    if control is None:
        return lines.appended(f"control:{lines.end}{INDENT}approvers:{lines.end}{INDENT * 2}- {item_text(pin)}")
    approvers = lines.child(control, "approvers")
    if approvers is None:
        return _with_list(lines, control, pin)
    return _with_item(lines, control, approvers, pin)


def without_item(text: str, index: int) -> str:
    """The text without the entry at that place of the list."""
    lines = _Lines(text)
    control = lines.child(lines.root, "control")
    approvers = None if control is None else lines.child(control, "approvers")
    if control is None or approvers is None:
        return text
    items = approvers.value
    if not approvers.flow_style:
        return _without_lines(lines, control, items, index)
    if len(items) == 1:
        return lines.replaced(approvers.start_mark.index + 1, approvers.end_mark.index - 1, "")
    if index < len(items) - 1:
        return lines.replaced(items[index].start_mark.index, items[index + 1].start_mark.index, "")
    return lines.replaced(items[index - 1].end_mark.index, items[index].end_mark.index, "")


def with_required(text: str, required: int) -> str:
    """The text with another number of owners who must sign; `control` is there, because it pins keys."""
    lines = _Lines(text)
    control = lines.child(lines.root, "control")
    number = lines.child(control, "approvals_required")
    if number is not None:
        return lines.replaced(number.start_mark.index, number.end_mark.index, str(required))
    first = control.value[0][0].start_mark
    if control.flow_style:
        return lines.replaced(first.index, first.index, f"approvals_required: {required}, ")
    at = first.index - first.column
    return lines.replaced(at, at, f"{' ' * first.column}approvals_required: {required}{lines.end}")


def _with_list(lines: "_Lines", control: Any, pin: Pin) -> str:
    if control.flow_style:
        at = control.start_mark.index + 1
        return lines.replaced(at, at, f"approvers: [{item_text(pin)}]" + (", " if control.value else ""))
    first = control.value[0][0].start_mark
    indent = " " * first.column
    at = first.index - first.column
    return lines.replaced(at, at, f"{indent}approvers:{lines.end}{indent}{INDENT}- {item_text(pin)}{lines.end}")


def _with_item(lines: "_Lines", control: Any, approvers: Any, pin: Pin) -> str:
    items = approvers.value
    if items and approvers.flow_style:
        at = items[-1].end_mark.index
        return lines.replaced(at, at, f", {item_text(pin)}")
    if items:
        indent = " " * approvers.start_mark.column
        at = lines.end_of_line(_last_leaf(items[-1]).end_mark.index)
        return lines.replaced(at, at, f"{lines.end}{indent}- {item_text(pin)}")
    if control.flow_style:
        return lines.replaced(approvers.start_mark.index, approvers.end_mark.index, f"[{item_text(pin)}]")
    # An empty list becomes one with a line for each entry; what stands behind it on its line stays there.
    key = lines.key(control, "approvers")
    at = lines.end_of_line(approvers.end_mark.index)
    item = f"{lines.end}{' ' * key.start_mark.column}{INDENT}- {item_text(pin)}"
    start = len(lines.text[: approvers.start_mark.index].rstrip(" "))
    return lines.text[:start] + lines.text[approvers.end_mark.index : at] + item + lines.text[at:]


def _without_lines(lines: "_Lines", control: Any, items: list[Any], index: int) -> str:
    start = lines.start_of_line(items[index].start_mark.index)
    end = lines.end_of_line(_last_leaf(items[index]).end_mark.index)
    end += len(lines.end) if lines.text.startswith(lines.end, end) else 0
    rest = lines.replaced(start, end, "")
    if len(items) > 1:
        return rest
    at = lines.text.index(":", lines.key(control, "approvers").end_mark.index) + 1
    return rest[:at] + " []" + rest[at:]


def _last_leaf(node: Any) -> Any:
    """The last node with an end of its own: that of a block is where the next thing begins, beyond comments."""
    while node.id != "scalar" and not node.flow_style and node.value:
        node = node.value[-1][1] if node.id == "mapping" else node.value[-1]
    return node


class _Lines:
    """A config's text and where its parts are."""

    def __init__(self, text: str) -> None:
        import yaml  # noqa: PLC0415 - a running agent has let go of it

        self.text = text
        self.end = "\r\n" if "\r\n" in text else "\n"
        self.root: Any = yaml.compose(text, Loader=yaml.SafeLoader)

    def child(self, mapping: Any, name: str) -> Any:
        return next((value for key, value in mapping.value if key.value == name), None)

    def key(self, mapping: Any, name: str) -> Any:
        return next(key for key, _ in mapping.value if key.value == name)

    def start_of_line(self, index: int) -> int:
        return self.text.rfind("\n", 0, index) + 1

    def end_of_line(self, index: int) -> int:
        at = self.text.find(self.end, index)
        return len(self.text) if at < 0 else at

    def replaced(self, start: int, end: int, new: str) -> str:
        return self.text[:start] + new + self.text[end:]

    def appended(self, lines: str) -> str:
        gap = "" if not self.text or self.text.endswith("\n") else self.end
        return f"{self.text}{gap}{lines}{self.end}"
