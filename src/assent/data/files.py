"""Files to rows: JSON lines, JSON, CSV, TSV, Parquet, text, each plain or gzipped, and saved `datasets` folders.

If the whole file is unreadable, it raises DataError; an error in one row becomes that row's `problem`.
"""

from __future__ import annotations

import difflib
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from assent.data.hub import hub_rows, is_hub_name
from assent.data.json_documents import json_row, json_rows
from assent.data.rows import SourceRow
from assent.data.tables import arrow_folder_rows, csv_rows, parquet_rows
from assent.errors import DataError

TextRows = Literal["document", "lines"]

_MARKS = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_ZEROS: dict[tuple[bool, ...], str] = {  # where the zeros of the first characters stand without a mark
    (False, True, True, True): "UTF-32LE",
    (True, True, True, False): "UTF-32BE",
    (False, True, False, True): "UTF-16LE",
    (True, False, True, False): "UTF-16BE",
}
_PACKED = {
    rb"\xfd7zXZ\0": ("packed with xz", "Unpack it first: xz -d -k"),
    rb"BZh[1-9]1AY&SY": ("packed with bzip2", "Unpack it first: bzip2 -d -k"),
    rb"PK\x03\x04": ("a zip archive or a spreadsheet", "Save it as CSV, or unpack it first: unzip"),
    rb"\x28\xb5\x2f\xfd": ("packed with Zstandard", "Unpack it first: zstd -d"),
    rb"7z\xbc\xaf\x27\x1c": ("a 7z archive", "Unpack it first: 7z x"),
}
_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """The rows of a file and the SHA-256 of its bytes on disk (of all files, for a folder)."""

    path: str
    sha256: str
    rows: tuple[SourceRow, ...]


def read_file(path: str | Path, *, text_rows: TextRows = "document") -> SourceFile:
    """All rows of a file, a saved folder, or a hub data set (see `hub.py`).

    A .txt file is one row, or one row per non-blank line.
    """
    path = Path(path)
    if is_hub_name(path):
        rows, digest = hub_rows(str(path))
    elif path.is_dir():
        rows, digest = arrow_folder_rows(path)
    else:
        content = _bytes_of(path)
        digest = hashlib.sha256(content).hexdigest()
        rows = tuple(_rows(_unzipped(content, str(path)), path, text_rows))
    if not rows:
        raise DataError("the file holds no rows", where=str(path), now="Give a file with at least one row.")
    return SourceFile(path=str(path), sha256=digest, rows=rows)


def _bytes_of(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError("there is no such file", where=str(path), now=_near_names(path)) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(f"the file cannot be read ({reason})", where=str(path)) from error
    if not content.strip():
        raise DataError("the file is empty", where=str(path), now="Give a file with at least one row.")
    return content


def _near_names(path: Path) -> str:
    names = [child.name for child in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.6)
    if near:
        return f"Did you mean {' or '.join(str(path.parent / name) for name in near)}?"
    return "Check the path." if names else f"The folder {path.parent} does not exist or is empty."


def _unzipped(content: bytes, place: str) -> bytes:
    for mark, (packed, now) in _PACKED.items():
        if re.match(mark, content):
            raise DataError(f"the file is {packed}", where=place, now=f"{now} {place}")
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except EOFError as error:
        raise DataError("the gzip file is cut short", where=place, now="Copy or download it again.") from error
    except (OSError, zlib.error) as error:
        raise DataError(f"the gzip file is damaged ({error})", where=place, now="Copy or download it again.") from error


def _rows(content: bytes, path: Path, text_rows: TextRows) -> Iterator[SourceRow]:
    name, suffix = str(path), Path(path.stem if path.suffix == ".gz" else path.name).suffix.lower()
    if content.startswith(b"PAR1"):
        return iter(parquet_rows(content, name))
    if suffix == ".parquet":
        raise DataError("this is not a Parquet file", where=name, now="Give it the right ending, or export it again.")
    text = _decoded(content, name)
    if not text.strip():
        raise DataError("the file is empty", where=name, now="Give a file with at least one row.")
    if suffix in (".csv", ".tsv"):
        return csv_rows(text, name, delimiter="\t" if suffix == ".tsv" else ",")
    if suffix == ".txt":
        return _text_file_rows(text, name, text_rows)
    if suffix in (".jsonl", ".ndjson") and not text.lstrip().startswith("["):
        return _json_lines(text, name)
    return _json_rows(text, name, known=suffix in _SUFFIXES)


def _decoded(content: bytes, place: str) -> str:
    marked = (name for mark, name in _MARKS.items() if content.startswith(mark))
    if wide := next(marked, _ZEROS.get(tuple(byte == 0 for byte in content[:4]))):
        raise DataError(f"the file is {wide[:6]}, not UTF-8", where=place, now=f"Convert it: iconv -f {wide} -t UTF-8.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"byte 0x{content[error.start]:02x} is not UTF-8 text",
            where=f"{place}:{line}",
            now="Convert the file to UTF-8, e.g. iconv -f LATIN1 -t UTF-8.",
        ) from error


def _lines(text: str) -> list[str]:
    """Lines end only at \\n, \\r\\n or \\r; other Unicode separators belong to the text."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _text_file_rows(text: str, name: str, text_rows: TextRows) -> Iterator[SourceRow]:
    if text_rows == "document":
        yield SourceRow(place=name, number=1, fields={"text": text})
        return
    for number, line in enumerate(_lines(text), start=1):
        if line.strip():
            yield SourceRow(place=f"{name}:{number}", number=number, fields={"text": line.strip()})


def _json_lines(text: str, name: str) -> Iterator[SourceRow]:
    for number, line in enumerate(_lines(text), start=1):
        line = line.lstrip("\ufeff")  # joined files contain byte-order marks
        if line.strip():
            place = f"{name}:{number}"
            try:
                yield json_row(_parsed(line), place, number)
            except DataError as error:
                yield SourceRow(place=place, number=number, problem=error.what)


def _json_rows(text: str, name: str, *, known: bool) -> Iterator[SourceRow]:
    try:
        tree = _parsed(text)
    except DataError as error:
        lines = [line for line in _lines(text) if line.strip()]
        if len(lines) > 1 and all(line.lstrip().startswith("{") for line in lines[:2]) and _reads(lines[0]):
            return _json_lines(text, name)
        if not known:
            now = f"Known endings: {', '.join(_SUFFIXES)}, each also with .gz; or a folder saved by datasets."
            raise DataError("the file has an unknown format", where=name, now=now) from error
        raise DataError(error.what, where=name, now="Repair the file, or write one JSON object per line.") from error
    return iter(json_rows(tree, name))


def _reads(line: str) -> bool:
    try:
        return isinstance(_parsed(line), dict)
    except DataError:
        return False


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise DataError(f"broken JSON: {error.msg.removesuffix(' at')} at {line}column {error.colno}") from error
    except RecursionError as error:
        raise DataError("broken JSON: it is nested too deeply") from error
    except ValueError as error:
        raise DataError(f"broken JSON: {str(error).partition(';')[0]}") from error
