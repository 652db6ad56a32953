"""Pictures: opened with care, quarantined with a reason; icons and folders made domains."""

import io
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from embkit import load_domain
from embkit.data import images
from embkit.data.images import PictureFault, is_picture, keep_picture, open_picture, read_picture
from embkit.data.sources import icons
from embkit.data.sources.captioned import TO_IMAGE, TO_TEXT, Captioned, domain_of, parts
from embkit.data.sources.icons import family
from embkit.errors import EmbkitError

SQUARE = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 10 10'>{}<path d='M0 0h5v10H0z'/></svg>"
)


def saved(path, image, **options):
    image.save(path, **options)
    return path


def picture(seed, size=(32, 32)):
    """A picture of its own: noise, but of few colours."""
    values = np.random.default_rng(seed).integers(0, 4, (*size[::-1], 3)) * 80
    return Image.fromarray(values.astype(np.uint8))


def bomb(path):
    """A PNG of a few bytes that claims 60,000 by 60,000 pixels."""
    raw = io.BytesIO()
    Image.new("L", (1, 1)).save(raw, format="PNG")
    data = bytearray(raw.getvalue())
    data[16:24] = (60000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)
    return path


def corrupt(path):
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"nonsense" * 20)
    return path


def cut_off(path):
    raw = io.BytesIO()
    picture(0).save(raw, format="PNG")
    path.write_bytes(raw.getvalue()[:600])
    return path


def moving(path):
    frames = [picture(seed) for seed in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    return path


def svg(inner):
    def write(path):
        path.write_text(SQUARE.format(inner))
        return path

    return write


REFUSED = {  # name -> (file, how it is made, what the reason says)
    "corrupt": ("a.png", corrupt, "damaged"),
    "cut off": ("a.png", cut_off, "damaged"),
    "empty": ("a.jpg", lambda p: p.write_bytes(b"") and p or p, "damaged"),
    "text": ("a.jpg", lambda p: p.write_text("no picture") and p, "damaged"),
    "bomb": ("a.png", bomb, "more than"),
    "moving": ("a.gif", moving, "several frames"),
    "1 x 1": ("a.png", lambda p: saved(p, Image.new("RGB", (1, 1))), "smaller than"),
    "20000 x 10": ("a.png", lambda p: saved(p, Image.new("L", (20000, 10))), "longer than"),
    "missing": ("a.png", lambda p: p, "no such file"),
    "SVG with a file": ("a.svg", svg("<image href='/etc/hostname'/>"), "outside itself"),
    "SVG with an address": ("a.svg", svg("<use href='http://x.test/a.svg#a'/>"), "outside itself"),
    "SVG with a style sheet": ("a.svg", svg("<style>@import 'a.css';</style>"), "outside itself"),
    "SVG with a hidden address": ("a.svg", svg("<use href='&#104;ttp://x.test/'/>"), "outside"),
    "SVG with a pattern's file": ("a.svg", svg("<g fill='url(b.svg#x)'/>"), "outside itself"),
    "SVG with a script": ("a.svg", svg("<script>1</script>"), "outside itself"),
    "SVG with an entity": (
        "a.svg",
        lambda p: p.write_text("<!DOCTYPE svg><svg/>") and p,
        "outside",
    ),
    "SVG that is none": ("a.svg", lambda p: p.write_text("<svg") and p, "damaged"),
    "SVG too long": (
        "a.svg",
        lambda p: (
            p.write_text("<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 1 9999'/>") and p
        ),
        "longer than",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_refused_with_a_reason(tmp_path, name):
    file, make, reason = REFUSED[name]
    with pytest.raises(PictureFault, match=reason):
        read_picture(make(tmp_path / file))


def sixteen_bits(path):
    ramp = (np.arange(16 * 16).reshape(16, 16) * 257).astype(np.uint16)
    return saved(path, Image.fromarray(ramp))


def see_through(path):
    return saved(path, Image.new("RGBA", (16, 16), (255, 0, 0, 0)))


READ = {  # name -> (file, how it is made, its first and last pixel)
    "CMYK": (
        "a.jpg",
        lambda p: saved(p, Image.new("CMYK", (16, 16), (0, 255, 255, 0)), quality=95),
        ((255, 0, 0), (255, 0, 0)),
    ),
    "16 bits": ("a.png", sixteen_bits, ((0, 0, 0), (255, 255, 255))),
    "transparent": ("a.png", see_through, ((255, 255, 255), (255, 255, 255))),
    "palette": (
        "a.gif",
        lambda p: saved(p, Image.new("P", (16, 16), 0)),
        ((0, 0, 0), (0, 0, 0)),
    ),
    "grey": ("a.png", lambda p: saved(p, Image.new("L", (16, 16), 80)), ((80,) * 3, (80,) * 3)),
    "SVG": ("a.svg", svg("<defs><g id='a'/></defs><use href='#a'/>"), ((0,) * 3, (255,) * 3)),
}


@pytest.mark.parametrize("name", READ)
def test_odd_pictures_come_to_one_form(tmp_path, name):
    file, make, (first, last) = READ[name]
    image = read_picture(make(tmp_path / file))
    assert image.mode == "RGB"
    corners = [image.getpixel((0, 0)), image.getpixel((image.width - 1, image.height - 1))]
    assert np.abs(np.array(corners) - np.array([first, last])).max() <= 3  # JPEG is not exact


def test_a_large_picture_is_kept_small(tmp_path):
    image = read_picture(saved(tmp_path / "a.png", picture(1, (900, 300))))
    assert image.size == (images.KEPT, round(images.KEPT / 3))


@pytest.mark.parametrize("box, size", [("0 0 100 33", (224, 74)), ("0 0 1 3", (75, 224))])
def test_an_svg_is_drawn_with_its_longer_side_as_it_is_kept(tmp_path, box, size):
    file = svg("")(tmp_path / "a.svg")
    file.write_text(file.read_text().replace("0 0 10 10", box))
    assert read_picture(file).size == size


def test_only_a_kept_picture_is_one(tmp_path):
    reference = keep_picture(picture(1))
    assert is_picture(reference) and reference == keep_picture(picture(1))
    assert reference != keep_picture(picture(2))
    assert np.array_equal(np.asarray(open_picture(reference)), np.asarray(picture(1)))
    real = saved(tmp_path / "kettle.png", picture(1))
    others = [str(real), "picture:kettle", "picture:" + "0" * 32, reference + "\n", 7, ""]
    assert not any(map(is_picture, others))
    images.picture_file(reference).write_bytes(b"")
    with pytest.raises(EmbkitError, match="load the domain again"):
        open_picture(reference)


def test_pixels_are_whole_pictures_on_a_white_square():
    reference = keep_picture(Image.new("RGB", (40, 20), "black"))
    found = images.pixels([reference], 20)
    assert found.shape == (1, 20, 20, 3)
    assert (found[0, :5] == 255).all() and (found[0, 15:] == 255).all()
    assert (found[0, 5:15] == 0).all()


def rows(count=30):
    """A family is three rows; each row has a caption and a picture of its own."""
    return [
        Captioned(f"r{i}", f"thing {i}", keep_picture(picture(i)), f"family {i // 3}")
        for i in range(count)
    ]


def test_a_domain_asks_both_ways_among_the_held_out():
    domain = domain_of("things", "workshop", rows(), shares={"test": 0.2, "dev": 0.1})
    assert domain.direction(TO_IMAGE) == "text_to_image"
    assert domain.direction(TO_TEXT) == "image_to_text"
    assert {split: len(domain.qrels[split]) for split in domain.qrels} == {
        "train": 21,
        "dev": 3,
        TO_IMAGE: 6,
        TO_TEXT: 6,
    }
    assert len(domain.documents(TO_IMAGE)) == 6 and len(domain.dev_corpus()) == 3
    trained = {domain.groups[d] for d in domain.trained_documents}
    held = {domain.groups[d] for d in domain.documents(TO_IMAGE)}
    assert len(trained) == 7 and len(held) == 2 and not trained & held
    assert all(is_picture(domain.corpus[d]) for d in domain.documents(TO_IMAGE))
    assert "<img" in domain._repr_html_()
    again = domain_of("things", "workshop", rows(), shares={"test": 0.2, "dev": 0.1})
    assert again.hash == domain.hash


def test_what_hangs_together_is_one_part():
    one, two, three = (keep_picture(picture(i)) for i in range(3))
    found = parts(
        [
            Captioned("a", "cup", one, "x"),
            Captioned("b", "Cup ", two, "y"),  # the same caption
            Captioned("c", "mug", two, "z"),  # the same picture
            Captioned("d", "key", three, "w"),
        ]
    )
    assert sorted(len(part) for part in found) == [1, 3]


def test_several_pictures_of_a_caption_are_all_right():
    given = rows(12) + [Captioned("again", "thing 0", keep_picture(picture(99)), "family 0")]
    domain = domain_of("things", "workshop", given, shares={"test": 0.4, "dev": 0.1})
    asked = {domain.queries[q]: j for s in domain.qrels for q, j in domain.qrels[s].items()}
    assert len(asked["thing 0"]) == 2


def test_too_few_parts_are_refused():
    with pytest.raises(EmbkitError, match="three parts"):
        domain_of("things", "workshop", rows(6))


def test_families():
    assert family("kettle alert outline") == "kettle alert"
    assert family("numeric 1 box") == family("numeric 9 box outline") == "numeric box"
    assert family("outline") == "outline"


def test_icons_divide_no_family(minilm_by_name):
    domain = load_domain("icons", profile="smoke")
    trained = {domain.groups[d] for d in domain.trained_documents}
    for split in ("dev", TO_IMAGE, TO_TEXT):
        assert not trained & {domain.groups[d] for d in domain.documents(split)}
    assert 500 < len(domain.qrels["train"]) < 600 and len(domain.qrels[TO_IMAGE]) >= 40
    assert all(family(domain.queries[q]) == domain.groups[d] for q, d in first_pairs(domain))
    pictures = [domain.corpus[d] for d in domain.documents(TO_IMAGE)]
    assert images.pixels(pictures[:3], 96).std() > 20  # something is drawn
    assert icons.load("smoke").hash == domain.hash != icons.load("smoke", by="word").hash
    with pytest.raises(EmbkitError, match="grouping"):
        icons.load("smoke", by="colour")


def test_the_cut_is_an_option(minilm_by_name, monkeypatch):
    def plain(package, stems, svg):
        sides = ((8 + i % 40, 8 + i // 40) for i in range(len(stems)))
        return {
            s: keep_picture(Image.new("RGB", side)) for s, side in zip(stems, sides, strict=True)
        }

    monkeypatch.setattr(icons, "drawn", plain)
    by_word = load_domain("icons", profile="smoke", by="word", seed=1)
    assert by_word.name == "icons_by_word_1"
    trained = {domain_word(by_word, d) for d in by_word.trained_documents}
    assert not trained & {domain_word(by_word, d) for d in by_word.documents(TO_IMAGE)}
    for name, wrong in (("icd10cm", {"by": "word"}), ("x.csv", {"seed": 1})):
        with pytest.raises(EmbkitError, match="with the domain"):
            load_domain(name, profile="smoke", **wrong)


def domain_word(domain, document):
    return domain.groups[document].split()[0]


def test_the_same_question_of_two_splits_is_a_leak_where_they_share_documents():
    from dataclasses import replace

    domain = domain_of("things", "workshop", rows(), shares={"test": 0.2, "dev": 0.1})
    first, dev = next(iter(domain.qrels["train"])), next(iter(domain.qrels["dev"]))
    queries = dict(domain.queries) | {dev: domain.queries[first]}
    assert replace(domain, queries=queries)  # each has pictures of its own
    with pytest.raises(EmbkitError, match="leak"):
        replace(domain, queries=queries, searched={})


def first_pairs(domain):
    return [(q, next(iter(judged))) for q, judged in domain.qrels[TO_IMAGE].items()]


def folder_with(tmp_path, lines, header="picture,caption"):
    folder = tmp_path / "mine"
    folder.mkdir()
    for i in range(12):
        saved(folder / f"{i}.png", picture(i))
    (folder / "captions.csv").write_text("\n".join([header, *lines]) + "\n")
    return folder


def test_a_folder_of_your_own(tmp_path):
    lines = [f"{i}.png,thing {i}" for i in range(10)]  # 10.png and 11.png have no caption
    lines += ["gone.png,a thing that is gone", "0.png,", "../captions.csv,outside", "bad.png,bad"]
    lines += ["copy.png,thing 1", "2.png,thing 2"]
    folder = folder_with(tmp_path, lines)
    corrupt(folder / "bad.png")
    saved(folder / "copy.png", picture(1))
    domain = load_domain(str(folder), profile="workshop")
    causes = dict(domain.report.quarantined)
    assert causes == {
        "picture without a caption": 2,
        "caption without a picture": 1,
        "empty text": 1,
        "picture outside the folder": 1,
        "damaged, cut off, or no picture": 1,
        "same picture and caption as an earlier row": 1,
    }
    assert len(domain.report.quarantine.read_text().splitlines()) == 7
    assert sum(len(j) for j in domain.qrels.values()) == 10 + len(domain.qrels[TO_TEXT])
    assert any("counted once" in note for note in domain.report.notes)


def as_png(image):
    raw = io.BytesIO()
    image.save(raw, format="PNG")
    return {"bytes": raw.getvalue(), "path": None}


def data_with_pictures():
    from datasets import Dataset, Features, Image, List, Value

    cells = [as_png(picture(i)) for i in range(10)]
    cells += [{"bytes": b"no picture", "path": None}, None, as_png(picture(1))]
    texts = [[f"thing {i}", f"a thing, {i}"] for i in range(10)] + [["bad"], ["gone"], ["thing 1"]]
    texts[3] = ["thing 3", " "]
    kinds = {"img": Image(decode=False), "caption": List(Value("string")), "n": Value("int64")}
    columns = {"img": cells, "caption": texts, "n": list(range(13))}
    data = Dataset.from_dict(columns, features=Features(kinds))
    return data.cast_column("img", Image())


def test_a_data_set_with_an_image_column(tmp_path):
    from datasets import DatasetDict

    data = data_with_pictures()
    data.save_to_disk(tmp_path / "kept")
    domain = load_domain(tmp_path / "kept", profile="workshop")
    assert domain.name == "kept" and domain.report.columns == {"picture": "img"} | CAPTION
    assert dict(domain.report.quarantined) == {
        "empty text": 1,
        "damaged, cut off, or no picture": 1,
        "caption without a picture": 1,
        "same picture and caption as an earlier row": 1,
    }
    assert sum(len(j) for s, j in domain.qrels.items() if s != TO_TEXT) == 19
    assert domain.direction(TO_TEXT) == "image_to_text"
    assert load_domain(data, profile="workshop").hash == domain.hash  # as an object, too
    again = load_domain(data, profile="workshop", columns={"picture": "img"} | CAPTION)
    assert again.hash == domain.hash
    halves = DatasetDict({"train": data.select(range(6)), "test": data.select(range(6, 13))})
    whole = load_domain(halves, profile="workshop")
    assert whole.counts()["training pairs"] == domain.counts()["training pairs"]
    assert whole.report.notes == ("the splits train, test were read together",)
    with pytest.raises(EmbkitError, match="no column for the caption"):
        load_domain(data.remove_columns("caption"))
    with pytest.raises(EmbkitError, match="role of a column"):
        load_domain(data, columns={"anchor": "caption"})


CAPTION = {"caption": "caption"}


def test_a_saved_data_set_reads_no_file_outside_its_folder(tmp_path):
    from embkit.data.readers.image_folder import _stored

    file = saved(tmp_path / "a.png", picture(0))
    (tmp_path / "kept").mkdir()
    cell = {"bytes": None, "path": str(file)}
    assert str(_stored(cell, tmp_path / "kept")) == "picture outside the folder"
    assert is_picture(_stored(cell, tmp_path)) and is_picture(_stored(cell, None))


def test_a_folder_without_a_column_of_captions(tmp_path):
    folder = folder_with(tmp_path, ["0.png,red"], header="picture,colour")
    with pytest.raises(EmbkitError, match="no column for the caption in 'captions.csv'"):
        load_domain(str(folder))


def test_a_renderer_that_is_not_installed_names_its_line(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(EmbkitError, match=r'pip install "embkit\[pictures\]"'):
        read_picture(svg("")(tmp_path / "a.svg"))


def test_searched_documents_must_exist():
    domain = domain_of("things", "workshop", rows(), shares={"test": 0.2, "dev": 0.1})
    from dataclasses import replace

    with pytest.raises(EmbkitError, match="do not exist"):
        replace(domain, searched=dict(domain.searched) | {"dev": ("nothing",)})
    with pytest.raises(EmbkitError, match="does not search"):
        replace(domain, searched=dict(domain.searched) | {"dev": ()})


def test_an_archive_is_no_picture(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.png", "w") as archive:
        archive.writestr("a", "b" * 100)
    with pytest.raises(PictureFault, match="damaged"):
        read_picture(tmp_path / "a.png")


def test_class_folders_may_number_their_files_alike(tmp_path):
    for number in range(12):
        file = tmp_path / "mine" / f"kind_{number % 4}" / f"{number // 4}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        saved(file, picture(number))
    domain = load_domain(tmp_path / "mine", profile="workshop")
    splits = [split for split in domain.qrels if split != TO_TEXT]
    right = [pair for split in splits for pair in domain.right(split)]
    found = {(domain.queries[query], domain.corpus[document]) for query, document in right}
    assert found == {(f"kind {n % 4}", keep_picture(picture(n))) for n in range(12)}
