"""Changes single values in the text of a config, and leaves every other character as the administrator wrote it.

It refuses to guess: what it wrote is a config only once `load_config` has read it.
"""

import json
from collections.abc import Mapping
from pathlib import Path

TEMPLATE_NAME = "config.example.yaml"


class TextError(Exception):
    """The text is no YAML whose values could be found; the text is one line for the PC's administrator."""


def template_text() -> str:
    """The template of a config, as it comes with the package, or beside it in a source tree."""
    packaged = Path(__file__).with_name(TEMPLATE_NAME)
    in_source_tree = Path(__file__).parents[3] / "agent" / "common" / TEMPLATE_NAME
    return (packaged if packaged.is_file() else in_source_tree).read_text(encoding="utf-8")


def value_of(text: str, key: str) -> str | None:
    """The value of a key at the top of the config, if it is there and one word of text.

    Raises: TextError.
    """
    place = _places(text).get(key)
    return None if place is None else place[2]


def with_values(text: str, values: Mapping[str, str]) -> str:
    """The text with these values at its top, each in the place of the one there was, or in a line of its own.

    Raises: TextError.
    """
    places = _places(text)
    for key in sorted((key for key in values if key in places), key=lambda key: places[key][0], reverse=True):
        start, end, _ = places[key]
        # A text of several lines ends with the line's end, which whatever follows needs.
        line_end = "\n" if text[start:end].endswith("\n") else ""
        text = text[:start] + json.dumps(values[key]) + line_end + text[end:]
    missing = [f"{key}: {json.dumps(value)}\n" for key, value in values.items() if key not in places]
    return "".join(missing) + text


def _places(text: str) -> dict[str, tuple[int, int, str | None]]:
    """Where the value of each key at the top begins and ends, and what it is."""
    import yaml  # noqa: PLC0415 - only whoever changes a config needs it

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        # The parser's own words quote the line, which may hold a key.
        mark = getattr(error, "problem_mark", None)
        raise TextError(f"line {mark.line + 1 if mark else 1}: expected valid YAML") from error
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise TextError("expected keys with values")
    places: dict[str, tuple[int, int, str | None]] = {}
    for key, value in root.value:
        if value.start_mark.index < key.end_mark.index:
            raise TextError(f"{key.value}: expected its value beside it, not an alias of another")
        word = str(value.value) if isinstance(value, yaml.ScalarNode) else None
        places[str(key.value)] = (value.start_mark.index, value.end_mark.index, word)
    return places
