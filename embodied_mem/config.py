"""Configuration: one frozen dataclass per component, nested by composition, strict about names and types.

    @dataclass(frozen=True)
    class HeadConfig:
        hidden: int = 64
        \"\"\"Units of the hidden layer.\"\"\"

A mapping becomes a config with `from_dict`, dotted overrides are applied with `override`, and the JSON form is written
beside every checkpoint and result.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import textwrap
import types
import typing
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from embodied_mem.errors import UsageError, nearest
from embodied_mem.files import atomic_write_json, read_json

C = TypeVar("C")


def from_dict(cls: type[C], values: Mapping[str, Any], path: str = "") -> C:
    """Build the frozen dataclass ``cls`` from a mapping, checking every key and type.

    Raises:
        UsageError: an unknown key (the nearest valid one is named), a missing key, or a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise UsageError(f"expected a mapping for {path or cls.__name__}, got {type(values).__name__}: {values!r}")
    hints = _hints(cls)  # type: ignore[arg-type]
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            hint = nearest_key(cls, str(key), path)
            raise UsageError(f"unknown key {path + str(key)!r}{hint}; valid keys: {', '.join(sorted(fields))}")
    found = {name: _coerce(hints[name], values[name], path + name) for name in fields if name in values}
    missing = [
        path + name
        for name, field in fields.items()
        if name not in found and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UsageError(f"missing key {', '.join(missing)} for {cls.__name__}")
    return cls(**found)


def to_dict(config: Any) -> dict[str, Any]:
    """Return the JSON-able form of a config (tuples become lists)."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config) if field.init}


def override(config: C, values: Mapping[str, Any]) -> C:
    """Return a copy of ``config`` with dotted keys replaced: ``{"agent.memory": "gru"}``.

    Raises:
        UsageError: as `from_dict`.
    """
    merged = merge_dotted(to_dict(config), values)
    return from_dict(type(config), merged)


def merge_dotted(tree: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``tree`` (nested mappings) with dotted keys set; intermediate mappings are made where absent."""
    merged: dict[str, Any] = {key: dict(value) if isinstance(value, Mapping) else value for key, value in tree.items()}
    for dotted, value in values.items():
        head, _, rest = dotted.partition(".")
        if not rest:
            merged[head] = value
            continue
        inner = merged.get(head)
        if inner is not None and not isinstance(inner, Mapping):
            raise UsageError(f"cannot set {dotted!r}: {head!r} is {inner!r}, not a group of keys")
        merged[head] = merge_dotted(inner or {}, {rest: value})
    return merged


def nearest_key(cls: type, key: str, path: str = "") -> str:
    """Return `` (did you mean 'x'?)`` for the key of a config that was probably meant, or an empty string.

    Nested configs are looked into: ``memory`` alone gives ``agent.memory``.

    Args:
        cls: the config class that has no such key.
        key: what came.
        path: where ``cls`` stands, with a dot at the end.
    """
    names = _dotted(cls)
    deep = {name.rpartition(".")[2]: name for name in reversed(names) if "." in name}
    if key in deep:
        return f" (did you mean {path + deep[key]!r}?)"
    found = nearest(key, [name for name in names if "." not in name])
    if found:
        return found
    close = difflib.get_close_matches(key, deep, n=1, cutoff=0.7)
    return f" (did you mean {path + deep[close[0]]!r}?)" if close else ""


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """Turn ``["lr=1e-4", "agent.memory=gru"]`` into a mapping; values are YAML scalars or lists.

    Raises:
        UsageError: a word has no ``=`` or its value is not YAML.

    >>> parse_overrides(["lr=1e-4", "sizes=[1, 2]", "memory=gru"])
    {'lr': 0.0001, 'sizes': [1, 2], 'memory': 'gru'}
    """
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise UsageError(f"expected key=value, got {word!r}")
        found[key.strip()] = parse_value(text)
    return found


def parse_value(text: str) -> Any:
    """Parse one YAML value; ``1e-4`` is a float here, as every user expects."""
    import yaml

    try:
        return float(text) if _is_float(text) else yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"expected a YAML value, got {text!r}") from error


def save(config: Any, path: str | Path) -> None:
    """Write a config as JSON, atomically."""
    atomic_write_json(path, to_dict(config))


def load(cls: type[C], path: str | Path) -> C:
    """Read a config written by `save`."""
    return from_dict(cls, read_json(path))


@lru_cache(maxsize=256)
def field_docs(cls: type) -> dict[str, str]:
    """Return the doc line under each field of a config class, base classes included."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError):
            continue
        body = typing.cast(ast.ClassDef, tree.body[0]).body
        for item, after in zip(body, body[1:], strict=False):
            is_doc = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and is_doc:
                docs[item.target.id] = inspect.cleandoc(str(after.value.value))  # type: ignore[attr-defined]
    return docs


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    lowered = text.lower()
    return "e" in lowered and "_" not in text and not any(word in lowered for word in ("inf", "nan"))


@lru_cache(maxsize=256)
def _hints(cls: type) -> dict[str, Any]:
    if not dataclasses.is_dataclass(cls):
        raise TypeError(f"expected a dataclass, got {cls!r}")
    return typing.get_type_hints(cls)


def _dotted(cls: type, above: tuple[type, ...] = ()) -> list[str]:
    """Return the dotted keys of a config and of those nested in it, outer ones first."""
    hints, inner = _hints(cls), []
    found = [field.name for field in dataclasses.fields(cls) if field.init]
    for name in found:
        for part in (hints[name], *typing.get_args(hints[name])):
            if isinstance(part, type) and dataclasses.is_dataclass(part) and part not in (cls, *above):
                inner += [f"{name}.{key}" for key in _dotted(part, (cls, *above))]
    return found + sorted(inner, key=lambda key: key.count("."))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _coerce(kind: Any, value: Any, path: str) -> Any:
    """Check ``value`` against the annotation ``kind``; only lossless conversions are made (int to float)."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _coerce_union(arguments, value, path)
    if origin is typing.Literal:
        if value not in arguments:
            raise UsageError(f"expected one of {', '.join(map(repr, arguments))} for {path!r}, got {value!r}")
        return value
    if dataclasses.is_dataclass(kind):
        return value if isinstance(value, kind) else from_dict(kind, value, path + ".")  # type: ignore[arg-type]
    if origin in (list, tuple):
        return _coerce_sequence(origin, arguments, value, path)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise _wrong(kind, value, path)
        return {key: _coerce(arguments[1], item, f"{path}.{key}") for key, item in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is type(None):
        if value is None:
            return None
        raise _wrong(kind, value, path)
    if kind is Mapping or kind is dict:
        if not isinstance(value, Mapping):
            raise _wrong(kind, value, path)
        return dict(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _wrong(kind, value, path)
    return value


def _coerce_union(arguments: tuple[Any, ...], value: Any, path: str) -> Any:
    errors = []
    for argument in arguments:
        try:
            return _coerce(argument, value, path)
        except UsageError as error:
            errors.append(error)
    structured = [
        error for argument, error in zip(arguments, errors, strict=True) if dataclasses.is_dataclass(argument)
    ]
    raise structured[0] if structured and isinstance(value, Mapping) else _wrong(arguments, value, path)


def _coerce_sequence(origin: Any, arguments: tuple[Any, ...], value: Any, path: str) -> Any:
    if not isinstance(value, list | tuple):
        raise _wrong(origin, value, path)
    if origin is list or (len(arguments) == 2 and arguments[1] is Ellipsis):
        return origin(_coerce(arguments[0], item, f"{path}[{index}]") for index, item in enumerate(value))
    if len(arguments) != len(value):
        raise UsageError(f"expected {len(arguments)} values for {path!r}, got {len(value)}: {value!r}")
    pairs = zip(arguments, value, strict=True)
    return tuple(_coerce(argument, item, f"{path}[{index}]") for index, (argument, item) in enumerate(pairs))


def _wrong(kind: Any, value: Any, path: str) -> UsageError:
    name = " or ".join(_name(item) for item in kind) if isinstance(kind, tuple) else _name(kind)
    return UsageError(f"expected {name} for {path!r}, got {type(value).__name__}: {value!r}")


def _name(kind: Any) -> str:
    return "None" if kind is type(None) else getattr(kind, "__name__", str(kind))
