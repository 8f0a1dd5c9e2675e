"""Members as JSON objects: one per line (NDJSON), or the elements of an array."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from tornado_members.bulk.attribute_cells import nested
from tornado_members.bulk.csv_export import ID_HEADING
from tornado_members.bulk.mapping import ColumnMapping, map_columns
from tornado_members.bulk.options import FileInfo, FileOptions
from tornado_members.bulk.rows import Refusal, Row
from tornado_members.bulk.values import first_value
from tornado_members.errors import Fault, InvalidMember
from tornado_members.model.attributes import KEY as ATTRIBUTES
from tornado_members.model.attributes import path_of
from tornado_members.model.member import MAX_MEMBER_ID, parse_draft
from tornado_members.model.strict_json import integer_of, json_pointer, parse_object

LONGEST: Final = 64 * 1024  # bytes of an object
_MOST_FAULTS: Final = 20  # in the result of one row
_MOST_UNKNOWN: Final = 100  # names of unknown fields that are reported
_MOST_MAPPINGS: Final = 100  # of sets of keys
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_IN_ARRAY: Final = re.compile(rb'["{}\[\]]')
_SCALAR: Final = re.compile(rb'[^\s,"{}\[\]]+')
_IN_STRING: Final = re.compile(rb'["\\]')


def read_ndjson(
    pieces: Iterable[bytes], options: FileOptions, info: FileInfo
) -> Iterator[Row | None]:
    """Yield a row for each line that has an object; blank lines are skipped."""
    reader = ObjectReader(options, info)
    line, begun = 0, bytearray()
    for piece in pieces:
        first, *rest = piece.split(b"\n")
        # One byte more than allowed, to detect a long line.
        begun += first[: LONGEST + 1 - len(begun)]
        for further in rest:
            line += 1
            if row := reader.read(line, bytes(begun)):
                yield row
            begun[:] = further[: LONGEST + 1]
        yield None
    if row := reader.read(line + 1, bytes(begun)):
        yield row


def read_array(
    pieces: Iterable[bytes], options: FileOptions, info: FileInfo
) -> Iterator[Row | None]:
    """Yield the rows of an array of objects. Raises UnreadableFile where it is malformed."""
    reader = ObjectReader(options, info)
    scanner = ArrayScanner()
    for piece in pieces:
        for line, text in scanner.feed(piece):
            if row := reader.read(line, text):
                yield row
        yield None
    if scanner.has_more:
        detail = "has text after the end of the array, which was not read"
        yield Row(scanner.line, (), Refusal.of_row("not JSON", detail))
    if not scanner.is_complete:
        yield Row(scanner.line, (), Refusal.of_row("not JSON", "the array is not complete"))


class ArrayScanner:
    """Finds the elements in the text of an array, without parsing them."""

    def __init__(self) -> None:
        self.line = 1
        self.is_complete = False
        self.has_more = False  # text after the end of the array
        self._depth = 0  # of brackets and braces
        self._is_in_string = self._is_escaped = False
        self._is_text = self._is_scalar = False  # the element is a string; a number or a word
        self._begun = bytearray()
        self._start_line = 1

    def feed(self, piece: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the line and the text of each element that ends in this piece."""
        at = 0
        while at < len(piece):
            start = at
            at, is_element = self._step(piece, at)
            if self._depth or self._is_scalar or is_element:
                self._begun += piece[start : min(at, start + LONGEST + 1 - len(self._begun))]
            self.line += piece.count(b"\n", start, at)
            if is_element:
                yield self._start_line, bytes(self._begun)
                self._begun.clear()

    def _step(self, piece: bytes, at: int) -> tuple[int, bool]:
        """Scan to the next delimiter; return its end, and True after an element."""
        if self._is_escaped:
            self._is_escaped = False
            return at + 1, False
        if self._depth == 0 or self.is_complete:
            return self._between(piece, at)
        found = (_IN_STRING if self._is_in_string else _IN_ARRAY).search(piece, at)
        if found is None:
            return len(piece), False
        match found[0]:
            case b"\\":
                self._is_escaped = True
            case b'"':
                self._is_in_string = not self._is_in_string
                if self._is_text:
                    self._depth, self._is_text = 0, False
            case b"{" | b"[":
                self._depth += 1
            case _:
                self._depth -= 1
        return found.end(), self._depth == 0

    def _between(self, piece: bytes, at: int) -> tuple[int, bool]:
        """Skip to the next element of the array."""
        if self.is_complete:
            self.has_more = self.has_more or not piece[at:].isspace()
            return len(piece), False
        if self._has_opened and (found := _SCALAR.match(piece, at)):
            self._start_line = self._start_line if self._is_scalar else self.line
            self._is_scalar = True
            return found.end(), False
        if self._is_scalar:
            self._is_scalar = False
            return at, True
        character = piece[at : at + 1]
        if character == b"]":
            self.is_complete = True
        elif character in (b"{", b"["):
            if self._has_opened or character == b"{":
                self._depth, self._start_line = 1, self.line
            self._has_opened = True
        elif character == b'"' and self._has_opened:
            self._depth, self._start_line = 1, self.line
            self._is_in_string = self._is_text = True
        return at + 1, False

    _has_opened = False  # the bracket of the array itself


class ObjectReader:
    """Checks objects, whose keys may be any heading that CSV columns have."""

    def __init__(self, options: FileOptions, info: FileInfo) -> None:
        self._options = options
        self._info = info
        self._mappings: dict[tuple[str, ...], ColumnMapping] = {}

    def read(self, line: int, text: bytes) -> Row | None:
        """Return the row in a text; None for white space."""
        text = text.removeprefix(_BYTE_ORDER_MARK) if line == 1 else text
        if not text or text.isspace():
            return None
        if len(text) > LONGEST:
            refusal = Refusal.of_row("too long", f"has more than {LONGEST} bytes")
            return Row(line, (), refusal, raw=text.decode("utf-8", "surrogateescape"))
        try:
            fields = parse_object(text)
        except ValueError as error:
            refusal = Refusal.of_row("not JSON", str(error))
            return Row(line, (), refusal, raw=text.decode("utf-8", "surrogateescape"))
        return self._check(line, fields)

    def _check(self, line: int, fields: Mapping[str, Any]) -> Row:
        faults: list[Fault] = []
        if self._options.fields.attributes and ATTRIBUTES in fields:
            fields, faults = self._flattened(fields)
        mapping = self._map(tuple(fields))
        values: dict[str, Any] = {}
        unused: dict[str, list[str]] = {}
        cells = [*fields.values()]
        for field, sources in mapping.sources.items():
            value = _first_present(cells, sources)
            if isinstance(value, str) and ID_HEADING not in fields:
                value, rest = first_value(field, value)
                if rest:
                    unused[field] = rest
            values[field] = None if isinstance(value, str) and not value.strip() else value
        faults += self._find_faults(fields, mapping, values)
        try:
            if values.get("name") is None and "name" in values:
                del values["name"]  # an empty name is a missing one
            draft = parse_draft(nested(values, self._options.fields), fields=self._options.fields)
        except InvalidMember as error:
            faults += error.faults
        shown = tuple(_text(values.get(field)) for field in ("name", "email", "phone"))
        if faults:
            refusal = Refusal(f"bad {faults[0].pointer[1:]}", faults[:_MOST_FAULTS])
            return Row(line, shown, refusal)
        return Row(line, shown, draft, unused=unused)

    def _flattened(self, fields: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[Fault]]:
        """Return an object in which each attribute has a key of its own, as in CSV files."""
        rest = {key: value for key, value in fields.items() if key != ATTRIBUTES}
        attributes = fields[ATTRIBUTES]
        if attributes is None:
            attributes = dict.fromkeys(self._options.fields.attributes.names)
        if not isinstance(attributes, Mapping):
            return rest, [Fault(json_pointer(ATTRIBUTES), "must be an object or null")]
        return {**rest, **{path_of(name): value for name, value in attributes.items()}}, []

    def _map(self, keys: tuple[str, ...]) -> ColumnMapping:
        """Return the fields of these keys; most objects of a file have the same keys."""
        mapping = self._mappings.get(keys)
        if mapping is None:
            if len(self._mappings) >= _MOST_MAPPINGS:
                self._mappings.clear()
            columns = [(f, key) for f, key in self._options.columns if key in keys]
            exact = [(field, field) for field in self._options.fields.columns if field in keys]
            assigned = {field for field, _ in columns}
            columns += [column for column in exact if column[0] not in assigned]
            mapping = self._mappings[keys] = map_columns(keys, columns, self._options.fields)
            for key in mapping.ignored:
                if key != ID_HEADING and len(self._info.unknown_fields) < _MOST_UNKNOWN:
                    self._info.unknown_fields[key] = None
        return mapping

    def _find_faults(
        self, fields: Mapping[str, Any], mapping: ColumnMapping, values: Mapping[str, Any]
    ) -> list[Fault]:
        """Return the faults of an object other than those of its values."""
        faults: list[Fault] = []
        member_id = fields.get(ID_HEADING, 1)
        if self._options.strict:
            number = integer_of(member_id)
            if number is None or not 1 <= number <= MAX_MEMBER_ID:
                detail = f"must be an integer from 1 to {MAX_MEMBER_ID}"
                faults.append(Fault("/memberId", detail))
            unknown = [key for key in mapping.ignored if key != ID_HEADING]
            faults += [_unknown(key) for key in unknown[:_MOST_FAULTS]]
        if mapping.faults and "name" not in values:
            faults += [Fault("", fault) for fault in mapping.faults]
        return faults


def _unknown(key: str) -> Fault:
    if key.startswith(path_of("")):
        pointer = json_pointer(ATTRIBUTES) + json_pointer(key.removeprefix(path_of("")))
        return Fault(pointer, "is not an attribute of a member")
    return Fault(json_pointer(key), "is not a field of a member")


def _first_present(cells: list[Any], sources: list[tuple[int, ...]]) -> Any:
    """Return the first value that is not empty; texts of several keys are joined."""
    for columns in sources:
        values = [cells[column] for column in columns if cells[column] not in (None, "")]
        if len(columns) == 1 and values:
            return values[0]
        if values and all(isinstance(value, str) for value in values):
            return " ".join(value.strip() for value in values)
    return None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
