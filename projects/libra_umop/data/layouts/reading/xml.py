"""XML of people's datasets: elements with the lines they stand in, and no entities.

Python's own ``ElementTree`` forgets lines and expands entities, by which a file of a kilobyte can
fill the memory or, with other parsers, show other files of the machine.
"""

import xml.parsers.expat
from collections.abc import Iterator
from dataclasses import dataclass, field

from ....errors import DatasetError

__all__ = ["Element", "first_tag", "read_xml"]


@dataclass
class Element:
    """One element.

    Attributes:
        tag, attributes, children: as in the file.
        text: before and between the children, without blanks around it.
        line: where it begins, from 1.
    """

    tag: str
    attributes: dict[str, str]
    line: int
    text: str = ""
    children: list["Element"] = field(default_factory=list)

    def child(self, tag: str) -> "Element | None":
        """The first child of that tag."""
        return next(self.all(tag), None)

    def all(self, *tags: str) -> Iterator["Element"]:
        """The children of those tags."""
        return (child for child in self.children if child.tag in tags)

    def say(self, *path: str) -> str:
        """The text of a child's child ..., "" if there is none."""
        element: Element | None = self
        for tag in path:
            element = element.child(tag) if element is not None else None
        return element.text if element is not None else ""


class _Refused(Exception):
    """Why a document is not read."""


def read_xml(path: str) -> Element:
    """The root element of an XML file.

    Raises:
        DatasetError: it cannot be read, is not XML, or declares an entity.
    """
    try:
        with open(path, "rb") as f:
            raw = f.read()
    except OSError as e:
        raise DatasetError(f"{path}: cannot be read: {e.strerror}") from e
    if not raw.strip():
        raise DatasetError(f"{path}: is empty; should be an XML file")
    try:
        return _parse(raw)
    except _Refused as e:
        raise DatasetError(f"{path}: {e}") from e
    except xml.parsers.expat.ExpatError as e:
        reason = xml.parsers.expat.ErrorString(e.code)
        where = f"at line {e.lineno}, column {e.offset + 1}"
        raise DatasetError(f"{path}: is not XML: {reason} {where}") from e
    except (LookupError, ValueError) as e:  # an encoding that there is not
        raise DatasetError(f"{path}: is not XML: {e}") from e


def _parse(raw: bytes) -> Element:
    parser = xml.parsers.expat.ParserCreate()
    parser.buffer_text = True
    top = Element("", {}, 0)
    open_elements = [top]

    def start(tag: str, attributes: dict[str, str]) -> None:
        element = Element(tag, attributes, parser.CurrentLineNumber)
        open_elements[-1].children.append(element)
        open_elements.append(element)

    def end(tag: str) -> None:
        element = open_elements.pop()
        element.text = element.text.strip()

    def text(data: str) -> None:
        open_elements[-1].text += data

    def refuse(name: str, *_) -> None:
        raise _Refused(f"line {parser.CurrentLineNumber} declares the entity {name!r}; refused")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.EntityDeclHandler = text, refuse
    parser.Parse(raw, True)
    return top.children[0]


def first_tag(path: str) -> str:
    """The tag of a file's root element, by its first 4 kB; "" if that cannot be told."""
    found = []
    parser = xml.parsers.expat.ParserCreate()
    parser.StartElementHandler = lambda tag, attributes: found.append(tag)
    try:
        with open(path, "rb") as f:
            parser.Parse(f.read(4096), False)
    except (OSError, LookupError, ValueError, xml.parsers.expat.ExpatError):
        pass
    return found[0] if found else ""
