"""The course as a static site and a printed handout, from the lessons as they ran.

``python -m notebooks.tools.site`` writes ``build/site/``, which needs no server and no network;
``handout`` prints the same pages to ``build/handout.pdf`` with a Chromium. A lesson that
``runs/course/`` holds, executed and in step with its source, is shown as it ran there; of the
others, the notebook with its committed outputs is shown.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import bs4
from nbformat import NotebookNode

from embkit.errors import EmbkitError
from embkit.files import replace_folder, write_atomic
from embkit.session import paths
from notebooks.tools.authoring import SOLUTION, promise, read
from notebooks.tools.course import add_only, chosen, ended
from notebooks.tools.quiz import parts

PAGES = Path(__file__).with_name("pages")
EXTRAS = {"glossary": "Glossary", "quiz": "Quiz"}
TEX = re.compile(r"\$\$(.+?)\$\$|\$([^\s$](?:[^$]*[^\s$])?)\$", re.S)
# What the course writes, and what matplotlib's mathtext calls it.
SAME_TEX = {r"\tfrac12": r"\frac{1}{2}", r"\big[": "[", r"\big]": "]", "\n": " "}
_PANEL = re.compile(r"ek\.widgets\.(\w+)\(")
_STYLED = re.compile(r"background-color: (#[0-9a-f]{6});\s*color: #[0-9a-f]{6}")
_ENTITIES = {"&": "&amp;", '"': "&quot;", "<": "&lt;"}


@dataclass(frozen=True)
class Lesson:
    """A lesson's page: what stands on it, and what a search finds there."""

    name: str  # of the notebook: 04_contrastive
    title: str
    promise: str
    ran: str  # where its outputs come from
    body: str = field(repr=False)
    sections: list[tuple[str, str]]  # of the second level: anchor, heading
    found: list[dict[str, str]] = field(repr=False)  # anchor, section, text


def site(
    folder: Path | None = None, *, notebooks: Path | None = None, runs: Path | None = None
) -> Path:
    """Writes the whole site.

    Args:
        folder: where to; it is replaced. Default: ``build/site``.
        notebooks: where the lessons are; default: the course's.
        runs: the runs' folder, whose ``course/`` and ``report.html`` are taken where they are.

    Returns:
        The page to open first.

    Raises:
        EmbkitError: no lessons there.
    """
    notebooks, runs = notebooks or paths().notebooks, runs or paths().runs
    folder = folder or paths().root / "build" / "site"
    made = lessons(notebooks, runs)
    report = runs / "report.html"

    def write(target: str) -> None:
        pages = _extra_pages(notebooks, made)
        head = _filled("contents", lessons=made, extras=EXTRAS, report=report.is_file())
        for name, body in {"index": head, **pages}.items():
            title = EXTRAS.get(name, "The course")
            page = _shell(made, name, title, body)
            write_atomic(Path(target, f"{name}.html"), page)
        neighbours = zip([None, *made[:-1]], made, [*made[1:], None], strict=True)
        for before, lesson, after in neighbours:
            page = _shell(made, lesson.name, lesson.title, lesson.body, before, after)
            write_atomic(Path(target, f"{lesson.name}.html"), page)
        index = [
            {"page": f"{one.name}.html", "title": one.title} | found
            for one in made
            for found in one.found
        ]
        script = json.dumps(index, ensure_ascii=False)
        write_atomic(Path(target, "search.js"), f"window.COURSE = {script};\n")
        for name in ("site.css", "site.js"):
            shutil.copy(PAGES / name, target)
        if (notebooks / "pictures").is_dir():
            shutil.copytree(notebooks / "pictures", Path(target, "pictures"))
        if report.is_file():
            shutil.copy(report, target)

    replace_folder(folder, write)
    return folder / "index.html"


def handout(
    pdf: Path | None = None,
    only: Sequence[str] = (),
    *,
    notebooks: Path | None = None,
    runs: Path | None = None,
) -> Path:
    """Prints the lessons, the glossary and the quiz, its answers last.

    Args:
        pdf: the file; default: ``build/handout.pdf``.
        only: numbers or names of lessons; empty means all.
        notebooks: where the lessons are.
        runs: the runs' folder.

    Raises:
        EmbkitError: no such lesson, no browser, or no playwright.
    """
    from tests.browser.lab_driver import chrome, find_chromium

    where, notebooks = find_chromium(), notebooks or paths().notebooks
    pdf = pdf or paths().root / "build" / "handout.pdf"
    made = lessons(notebooks, runs or paths().runs)
    names = {path.stem for path in chosen(notebooks, only)}
    pages = _extra_pages(notebooks, made)
    bodies = {one.name: one.body for one in made if one.name in names}
    bodies |= {name: pages[name] for name in ("glossary", "quiz")}
    page = bs4.BeautifulSoup(_shell(made, "", "Handout", ""), "html.parser")
    main = page.find(id="main")
    assert main is not None
    for name, body in bodies.items():
        article = page.new_tag("article")
        article.append(bs4.BeautifulSoup(body, "html.parser"))
        for tag in article.find_all(id=True):
            tag["id"] = f"{name}-{tag['id']}"
        main.append(article)
    for tag in page.find_all(["link", "script"]):
        tag.decompose()
    style = page.new_tag("style")
    style.string = (PAGES / "site.css").read_text(encoding="utf-8")
    page.head.append(style)  # type: ignore[union-attr]
    pdf.parent.mkdir(parents=True, exist_ok=True)
    with chrome(where) as browser:
        opened = browser.new_page()
        opened.set_content(str(page), wait_until="load")
        printed = opened.pdf(prefer_css_page_size=True, format="A4", tagged=True, outline=True)
    return write_atomic(pdf, printed)


def lessons(notebooks: Path, runs: Path) -> list[Lesson]:
    """Every lesson with its page, in the course's order."""
    if not (books := chosen(notebooks, ())):
        raise EmbkitError(
            f"no lessons in {notebooks}",
            expected="notebooks that are built",
            hint="python -m notebooks.tools.course build",
        )
    return [_lesson(path, runs / "course" / path.name) for path in books]


def _lesson(path: Path, executed: Path) -> Lesson:
    book, ran = shown(path, executed)
    solutions = path.parent / "solutions" / path.name
    solved = {cell.id: cell for cell in read(solutions).cells} if solutions.is_file() else {}
    pictures = path.parent / "pictures"
    for cell in book.cells:
        if SOLUTION in cell.metadata.get("tags", []) and cell.id in solved:
            cell.source = solved[cell.id].source
        for name in _PANEL.findall(cell.source) if cell.cell_type == "code" else ():
            file = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() + ".png"
            if (pictures / file).is_file():
                cell.metadata["panel"] = f"pictures/{file}"
    soup = bs4.BeautifulSoup(_exporter().from_notebook_node(book)[0], "html.parser")
    title = book.cells[0].source.splitlines()[0].removeprefix("# ")
    finish(soup)
    sections, found = _sections(soup)
    return Lesson(path.stem, title, promise(book), ran, str(soup), sections, found)


def shown(path: Path, executed: Path) -> tuple[NotebookNode, str]:
    """A lesson with outputs: as it ran on this machine, if it did and is the same text."""
    book = read(path)
    if executed.is_file():
        ran = read(executed)
        status = ran.metadata.get("embkit", {})
        if status.get("status") == "ok" and [c.source for c in ran.cells] == [
            c.source for c in book.cells
        ]:
            return ran, f"as it ran here, in {status['seconds']:.0f} s"
    return book, "as committed"


@cache
def _exporter() -> Any:
    from nbconvert import HTMLExporter

    return HTMLExporter(
        template_name="lesson", extra_template_basedirs=[str(PAGES)], anchor_link_text="#"
    )


def finish(soup: bs4.BeautifulSoup) -> None:
    """Formulas as pictures of vectors, links to sections with a name, none of them twice."""
    for link in soup.select("a.anchor-link"):
        link["aria-label"] = "link to this section"
    for text in soup.find_all(string=TEX):
        if text.find_parent(["code", "pre", "script", "style"]) or not text.find_parent(
            class_="prose"
        ):
            continue
        made = TEX.sub(lambda m: formula(m[1] or m[2], block=bool(m[1])), _escaped(str(text)))
        text.replace_with(bs4.BeautifulSoup(made, "html.parser"))
    for table in soup.select(".output table"):
        table.attrs.pop("border", None)
    for head in soup.select("th"):
        if not head.get_text(strip=True):
            head.name = "td"
    for style in soup.select(".output style"):
        style.string = _STYLED.sub(_readable, style.string or "")


def _readable(styled: re.Match[str]) -> str:
    """A cell's ground as pandas' Styler chose it, and whichever of black and white reads better."""
    parts = (int(styled[1][at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    luminance = sum(share * x for share, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return f"background-color: {styled[1]}; color: {'#000' if luminance > 0.179 else '#fff'}"


def _escaped(text: str) -> str:
    return re.sub('[&<"]', lambda m: _ENTITIES[m[0]], text)


@cache
def formula(tex: str, *, block: bool = False) -> str:
    """A formula of TeX as SVG in the colour of the text, with the TeX as its name.

    Raises:
        ValueError: matplotlib's mathtext does not know it.
    """
    import html

    from matplotlib.path import Path as Outline
    from matplotlib.textpath import TextPath

    plain = html.unescape(tex)
    for ours, theirs in SAME_TEX.items():
        plain = plain.replace(ours, theirs)
    if block:
        plain = plain.replace(r"\frac", r"\dfrac")
    size = 100.0  # units an em
    outline = TextPath((0, 0), f"${plain}$", size=size)
    letters = {Outline.MOVETO: "M", Outline.LINETO: "L", Outline.CURVE3: "Q", Outline.CURVE4: "C"}
    drawn = "".join(
        "Z"
        if code == Outline.CLOSEPOLY
        else letters[code] + " ".join(f"{x if n % 2 == 0 else -x:.1f}" for n, x in enumerate(at))
        for at, code in outline.iter_segments(curves=True, simplify=False)
    )
    box = outline.get_extents()
    view = f"{box.x0:.1f} {-box.y1:.1f} {box.width:.1f} {box.height:.1f}"
    return (
        f'<svg class="math{" block" if block else ""}" role="img" aria-label="{_escaped(plain)}" '
        f'viewBox="{view}" style="width:{box.width / size:.3f}em;height:{box.height / size:.3f}em;'
        f'vertical-align:{box.y0 / size:.3f}em"><path d="{drawn}"/></svg>'
    )


def _sections(soup: bs4.BeautifulSoup) -> tuple[list[tuple[str, str]], list[dict[str, str]]]:
    """The second level's headings, and the text under each as a search finds it."""
    sections: list[tuple[str, str]] = []
    found: list[dict[str, str]] = [{"anchor": "", "section": "the promise", "text": ""}]
    for cell in soup.select("div.cell"):
        if (solution := cell.find("details", class_="solution")) is not None:
            solution = solution.extract()  # nobody who searches wants to be told
        parts = cell.select(".highlight") if "code" in cell["class"] else [cell]
        for part in parts:
            for child in part.children if part is cell else [part]:
                if isinstance(child, bs4.Tag) and child.name in ("h2", "h3") and child.get("id"):
                    text = child.get_text().removesuffix("#").strip()
                    if child.name == "h2":
                        sections.append((str(child["id"]), text))
                    found.append({"anchor": str(child["id"]), "section": text, "text": ""})
                else:
                    text = child.get_text("" if part is not cell else " ")
                    found[-1]["text"] += " " + " ".join(text.split())
        if solution is not None:
            cell.insert(0, solution)
    return sections, [one | {"text": one["text"].strip()} for one in found]


def _extra_pages(notebooks: Path, made: Sequence[Lesson]) -> dict[str, str]:
    """The pages that are no lesson."""
    named = {lesson.name[:2]: lesson for lesson in made}
    terms = [t for t in glossary(notebooks) if t["lesson"] in named]
    return {
        "glossary": _filled("glossary", terms=terms, named=named),
        "quiz": _filled("quiz", parts=parts()),
    }


def glossary(notebooks: Path | None = None) -> list[dict[str, str]]:
    """The terms, each with its text and the lesson that defines it, by the alphabet."""
    file = (notebooks or paths().notebooks) / "glossary.toml"
    terms = tomllib.loads(file.read_text(encoding="utf-8"))["terms"]
    return sorted(({"term": k, **v} for k, v in terms.items()), key=lambda t: t["term"].lower())


def _shell(
    made: Sequence[Lesson],
    here: str,
    title: str,
    body: str,
    before: Lesson | None = None,
    after: Lesson | None = None,
) -> str:
    """A page around its content, which is HTML already."""
    from markupsafe import Markup

    around = {"lessons": made, "extras": EXTRAS, "before": before, "after": after}
    return _filled("page", here=here, title=title, body=Markup(body), **around)


def _filled(template: str, **values: Any) -> str:
    return _templates().get_template(f"{template}.html.j2").render(values)


@cache
def _templates() -> Any:
    from jinja2 import Environment, FileSystemLoader

    return Environment(
        loader=FileSystemLoader(PAGES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the site or the handout; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m notebooks.tools.site", description=__doc__)
    parser.add_argument("what", nargs="?", default="site", choices=("site", "handout"))
    add_only(parser, "lessons of the handout")
    given = parser.parse_args(arguments)
    make = site if given.what == "site" else lambda: handout(only=given.only)
    return ended(lambda: f"written: {make()}")


if __name__ == "__main__":
    sys.exit(main())
