"""What a browser sends of a page's form."""

from html.parser import HTMLParser

import httpx


def sent_by(response: httpx.Response) -> dict[str, list[str]]:
    """Returns what a browser sends of the form of a page, as it stands."""
    form = Form()
    form.feed(response.text)
    return form.fields


class Form(HTMLParser):
    """Reads the last form of a page that is posted."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, list[str]] = {}
        self._text: tuple[str, list[str]] | None = None
        self._select: str | None = None
        self._is_named = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        name, value = given.get("name") or "", given.get("value") or ""
        if tag == "form":
            self.fields = {}
        elif tag == "textarea":
            self._text = (name, [])
        elif tag == "select":
            self._select = name
        elif tag == "option" and self._select is not None:
            if "selected" in given or self._select not in self.fields:
                self.fields[self._select] = [value]
                self._is_named = "value" not in given
        elif tag == "input" and (given.get("type") != "checkbox" or "checked" in given):
            self.fields.setdefault(name, []).append(value)

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text[1].append(data)
        elif self._is_named and self._select is not None:  # an option without a value is sent by its text
            self.fields[self._select] = [data]
            self._is_named = False

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea" and self._text is not None:
            name, parts = self._text
            self.fields[name] = ["".join(parts).removeprefix("\n").replace("\n", "\r\n")]
            self._text = None
        elif tag == "select":
            self._select = None
