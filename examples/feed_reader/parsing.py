"""Parses RSS and Atom with the standard library. (For feeds from untrusted authors, use a hardened parser.)"""

from typing import NamedTuple
from xml.etree import ElementTree

_ATOM = "{http://www.w3.org/2005/Atom}"


class Entry(NamedTuple):
    guid: str
    title: str
    link: str


def parse(body: bytes) -> list[Entry]:
    """Returns the entries of a feed. Raises ``ElementTree.ParseError``."""
    root = ElementTree.fromstring(body)
    if root.tag == f"{_ATOM}feed":
        return [_atom_entry(element) for element in root.iter(f"{_ATOM}entry")]
    return [
        Entry(item.findtext("guid", ""), item.findtext("title", ""), item.findtext("link", ""))
        for item in root.iter("item")
    ]


def _atom_entry(element: ElementTree.Element) -> Entry:
    link = element.find(f"{_ATOM}link")
    href = "" if link is None else link.get("href", "")
    return Entry(element.findtext(f"{_ATOM}id", ""), element.findtext(f"{_ATOM}title", ""), href)
