"""INI files whose values are Python literals, read without running anything of them."""

import ast
import configparser
from pathlib import Path
from typing import Any

from defectmill.config import ConfigError


def read_literal_ini(path: Path) -> dict[str, dict[str, Any]]:
    """Read {section: {key: value}}; `;` begins a comment.

    Raises:
        ConfigError: no such file, a line that is neither section nor key, a key twice, or a
            value that is no literal; with section, key and value.
    """
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=(";",))
    try:
        parser.read_string(_join_brackets(path.read_text(encoding="utf-8-sig")), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    except configparser.Error as error:
        raise ConfigError(f"{path}: {error}") from error
    config: dict[str, dict[str, Any]] = {section: {} for section in parser.sections()}
    for section, keys in config.items():
        for key, value in parser[section].items():
            try:
                keys[key] = ast.literal_eval(value)
            except (ValueError, SyntaxError) as error:
                raise ConfigError(
                    f"{path} [{section}] {key} = {value}: not a Python literal; quote text"
                ) from error
    return config


def _join_brackets(text: str) -> str:
    """Bring a literal that runs over several lines into one, as INI wants it."""
    lines: list[str] = []
    depth = 0
    for line in text.splitlines():
        bare = line.split(";")[0].strip()
        if depth > 0:
            lines[-1] += " " + bare
        else:
            lines.append(line)
        if not (depth == 0 and bare.startswith("[")):  # a section
            depth += sum(bare.count(b) for b in "([{") - sum(bare.count(b) for b in ")]}")
    return "\n".join(lines)
