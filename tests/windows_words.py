"""A command line taken apart as Windows does it, for tests.

Source: CommandLineToArgvW and "Parsing C command-line arguments", learn.microsoft.com.
"""


def words_of(line: str) -> list[str]:
    """What a program gets; the first word, its own name, ends at the next quote and knows no backslashes."""
    line = line.lstrip(" \t")
    if line.startswith('"'):
        name, _, rest = line[1:].partition('"')
    else:
        name = line.split(" ", 1)[0].split("\t", 1)[0]
        rest = line[len(name) :]
    return [name, *_arguments(rest)]


def _arguments(text: str) -> list[str]:
    words: list[str] = []
    word: list[str] | None = None
    is_quoted = False
    position = 0
    while position < len(text):
        character = text[position]
        if character in " \t" and not is_quoted:
            words += ["".join(word)] if word is not None else []
            word = None
            position += 1
            continue
        word = [] if word is None else word
        if character == "\\":
            count = len(text[position:]) - len(text[position:].lstrip("\\"))
            position += count
            is_before_quote = text[position : position + 1] == '"'
            word.append("\\" * (count // 2 if is_before_quote else count))
            if is_before_quote and count % 2:
                word.append('"')
                position += 1
            continue
        position += 1
        if character != '"':
            word.append(character)
        elif is_quoted and text[position : position + 1] == '"':
            word.append('"')
            position += 1
        else:
            is_quoted = not is_quoted
    return [*words, "".join(word)] if word is not None else words
