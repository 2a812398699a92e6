"""YAML of a user's own, read so that whatever is wrong with it can be said with its file and line."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from meta_spliceai.errors import InputError

MOST_VALUES = 100_000
"""Values of a YAML file, aliases written out; the packaged catalogue has a few thousand."""


def read_text(path: Path) -> str:
    """A file's text; InputError where it is none."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def read_yaml(name: str, text: str) -> tuple[yaml.Node | None, Any]:
    """The tree of a YAML text, which knows its lines, and its content.

    Args:
        name: the file, for messages.
        text: the YAML.

    Raises:
        InputError: no YAML, or a field that stands twice in one block; names file, line and field.
    """
    try:
        loader = yaml.SafeLoader(text)
        tree = loader.get_single_node()
        if tree is not None and _checked_size(name, tree, {}) > MOST_VALUES:
            raise InputError(f"{name}: more than {MOST_VALUES:,} values, with what its aliases (*name) repeat")
        return tree, None if tree is None else loader.construct_document(tree)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or a number that is none
        mark = getattr(error, "problem_mark", None)
        where = f"{name}, line {mark.line + 1}" if mark is not None else name
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise InputError(f"{where}: not valid YAML ({problem})") from error
    except RecursionError as error:
        raise InputError(f"{name}: not valid YAML (nested too deeply)") from error


def _checked_size(name: str, node: yaml.Node, sizes: dict[int, int]) -> int:
    """Values in a node, with what each alias repeats, once no key stands twice in one block (YAML's reader would keep
    the last one without a word). `sizes`: of nodes seen before."""
    if id(node) in sizes:
        return sizes[id(node)]
    sizes[id(node)] = MOST_VALUES + 1  # for a block within itself, which never ends
    parts: list[yaml.Node] = [] if isinstance(node, yaml.ScalarNode) else node.value
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise InputError(f"{name}, line {line}: the name of a field is a word, not a block")
            if key.value in first:
                raise InputError(
                    f"{name}, line {line}: field '{key.value}' stands twice, first on line {first[key.value]}"
                )
            first[key.value] = line
        parts = [*chain(*node.value)]
    sizes[id(node)] = 1 + sum(_checked_size(name, part, sizes) for part in parts)
    return sizes[id(node)]


def line_of(tree: yaml.Node, path: Sequence[object]) -> int:
    """The 1-based line of the deepest node along a path of keys and places."""
    nodes = nodes_along(tree, path)
    return (nodes[-1] if nodes else tree).start_mark.line + 1


def nodes_along(tree: yaml.Node, path: Sequence[object]) -> list[yaml.Node]:
    """The nodes along a path of keys and places, as far as the file has them; a key stands for its own node."""
    nodes = []
    for step in path:
        if isinstance(tree, yaml.MappingNode):
            pair = next(((key, value) for key, value in tree.value if key.value == str(step)), None)
            if pair is None:
                break
            nodes.append(pair[0])
            tree = pair[1]
        elif isinstance(tree, yaml.SequenceNode) and isinstance(step, int) and step < len(tree.value):
            tree = tree.value[step]
            nodes.append(tree)
        else:
            break
    return nodes
