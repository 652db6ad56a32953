"""HTML read by the standard library's parser: its tables as texts, and the tags that it has."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """Tables as lists of rows of cells, captions apart; the names of all tags; what is bold."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.captions, self.bold, self.styles = [], [], [], []
        self.tags = set()
        self._open = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self._open.append(tag)
        if tag == "table":
            self.tables.append([])
            self.styles.append([])
        elif tag == "tr":
            self.tables[-1].append([])
            self.styles[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.styles[-1][-1].append(dict(attrs).get("style", ""))
        elif tag == "caption":
            self.captions.append("")
        elif tag == "b":
            self.bold.append("")

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if "td" in self._open or "th" in self._open:
            self.tables[-1][-1][-1] += data
        if "caption" in self._open:
            self.captions[-1] += data
        if "b" in self._open:
            self.bold[-1] += data
