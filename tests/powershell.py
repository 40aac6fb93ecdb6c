"""PowerShell as its grammar sees it, and the rules that our scripts keep so that spaces and quotes survive.

tree-sitter's grammar finds missing braces and the like. It knows no cmdlets, so a list of those that we use stands
here.
"""

from collections.abc import Iterator
from pathlib import Path

import tree_sitter_powershell
from tree_sitter import Language, Node, Parser

FOLDER = Path(__file__).parents[1] / "agent" / "windows"
SCRIPTS = sorted(FOLDER.glob("*.ps1"))
# All are in Windows PowerShell 5.1, which every supported Windows has.
CMDLETS = {
    *("Get-Command", "Join-Path", "New-Object", "Set-Location", "Set-StrictMode", "Split-Path"),
    *("Select-Object", "Where-Object", "Write-Host"),
}
# The grammar takes the three blocks of a script for calls.
BLOCKS = {"begin", "process", "end"}

_PARSER = Parser(Language(tree_sitter_powershell.language()))


def parsed(text: str) -> Node:
    """The tree of a script."""
    return _PARSER.parse(text.encode()).root_node


def nodes(root: Node, *kinds: str) -> Iterator[Node]:
    """Every node of these kinds, or every one."""
    if not kinds or root.type in kinds:
        yield root
    for child in root.children:
        yield from nodes(child, *kinds)


def text_of(node: Node) -> str:
    assert node.text is not None
    return node.text.decode()


def complaints(text: str) -> list[str]:
    """What is wrong with a script, a line each."""
    root = parsed(text)
    found = [
        f"{node.start_point.row + 1}: it cannot be parsed" for node in nodes(root) if node.is_error or node.is_missing
    ]
    known = CMDLETS | BLOCKS | functions(text)
    for command in nodes(root, "command"):
        found += [f"{command.start_point.row + 1}: {said}" for said in _complaints_of_call(command, known)]
    for node in nodes(root):
        found += [f"{node.start_point.row + 1}: {said}" for said in _complaints_of_text(node)]
    return found


def functions(text: str) -> set[str]:
    """The functions that a script defines."""
    return {text_of(next(nodes(node, "function_name"))) for node in nodes(parsed(text), "function_statement")}


def _complaints_of_call(command: Node, known: set[str]) -> Iterator[str]:
    operator = next((child for child in command.children if child.type == "command_invokation_operator"), None)
    if operator is not None and text_of(operator) == "&":
        # A program: every argument comes from an array, so that PowerShell itself quotes each.
        for word in _words_of(command):
            if not word.startswith("@"):
                yield f"{word} is an argument of a program, and no splatted array"
        return
    if operator is not None:
        return
    name = text_of(next(nodes(command, "command_name")))
    if name not in known:
        yield f"{name} is no cmdlet of ours"


def _words_of(command: Node) -> Iterator[str]:
    elements = next((child for child in command.children if child.type == "command_elements"), None)
    for child in elements.children if elements is not None else []:
        if child.type != "command_argument_sep" and text_of(child) != "2>$null":
            yield text_of(child)


def _complaints_of_text(node: Node) -> Iterator[str]:
    if node.type == "expandable_string_literal" and any(nodes(node, "variable")) and not _is_told_to_a_person(node):
        yield f"{text_of(node)} splices a variable into a string"
    if node.type == "additive_expression" and len(node.children) > 1 and any(nodes(node, "string_literal")):
        operands = [child for child in node.children if child.is_named]
        if not all(text_of(operand).startswith(("$", "@(")) for operand in operands):
            yield f"{text_of(node)} puts a string together"
    if node.type in {"format_expression", "comparison_expression"} and len(node.children) > 1:
        operator = text_of(node.children[1]).lower()
        if operator in {"-f", "-join"} and any(nodes(node, "variable")):
            yield f"{text_of(node)} puts a string together"
    if node.type == "stop_parsing":
        yield "--% leaves quoting to chance"


def _is_told_to_a_person(node: Node) -> bool:
    above = node.parent
    while above is not None and above.type != "command":
        above = above.parent
    return above is not None and text_of(above).startswith("Write-Host ")
