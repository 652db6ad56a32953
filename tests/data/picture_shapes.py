"""Pictures with captions, as people have them: tables, JSON, files side by side, archives."""

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from embkit.data.images import decode, keep_picture
from tests.data.written import PAIRS, Rows, add, csv_text, jsonl_text, save, tsv_text

CAPTIONS = [f"a plate, number {n}, for {query}" for n, (query, *_) in enumerate(PAIRS)]
FIVE = [[f"{caption}, view {view} ." for view in range(5)] for caption in CAPTIONS]
FORMS = {"jpg": "JPEG", "png": "PNG"}
Pairs = Iterable[tuple[str, str]]


def picture(number: int, kind: str = "jpg") -> bytes:
    """A small picture of its own colours."""
    image = Image.new("RGB", (24, 24), (10 * number, 255 - 10 * number, 90))
    image.paste((255, 255, 255 - 8 * number), (number % 5 * 4, number // 5 * 4, 24, 24))
    stream = io.BytesIO()
    image.save(stream, format=FORMS[kind])
    return stream.getvalue()


def right(kind: str = "jpg", captions: list[list[str]] | None = None):
    """Caption -> picture, as embkit names it; looked up when a shape is written."""

    def found() -> Pairs:
        for number, texts in enumerate(captions or [[caption] for caption in CAPTIONS]):
            name = keep_picture(decode(picture(number, kind)))
            yield from ((text, name) for text in texts)

    return found


def name_of(number: int, kind: str = "jpg") -> str:
    return f"{number:09d}.{kind}"


def pictures(folder: Path, kind: str = "jpg") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(len(PAIRS)):
        (folder / name_of(number, kind)).write_bytes(picture(number, kind))
    return folder


def rows(*names: str, kind: str = "jpg", below: str = "") -> Rows:
    return [
        dict(zip(names, (below + name_of(number, kind), caption), strict=True))
        for number, caption in enumerate(CAPTIONS)
    ]


def five(mark: str) -> list[tuple[str, str]]:
    return [
        (name_of(number) + mark.format(view), text)
        for number, texts in enumerate(FIVE)
        for view, text in enumerate(texts)
    ]


def table(folder: Path, name: str, text: str, kind: str = "jpg", below: str = "") -> Path:
    pictures(folder / below, kind)
    save(folder / name, text)
    return folder


CLIP = rows("filepath", "title")
TOKENS = "".join(f"{name}\t{text}\n" for name, text in five("#{}"))
UNQUOTED = "image,caption\n" + "".join(f"{name},{text}\n" for name, text in five(""))
for name, given in {
    "csv": ("captions.csv", csv_text(rows("picture", "caption"))),
    "csv_png": ("captions.csv", csv_text(rows("image", "text", kind="png")), "png"),
    "csv_below": ("t.csv", csv_text(rows("file", "text", below="img/")), "jpg", "img"),
    "imagefolder": ("metadata.jsonl", jsonl_text(rows("file_name", "text"))),
    "imagefolder_csv": ("metadata.csv", csv_text(rows("file_name", "text"))),
    "open_clip": ("train.csv", csv_text(CLIP)),
    "open_clip_tab": ("train.csv", tsv_text(CLIP)),
}.items():
    add(f"picture_{name}", table, *given, pairs=right(*given[2:3]))
for name, given in {
    "flickr8k": ("captions.txt", UNQUOTED),
    "flickr8k_images": ("captions.txt", UNQUOTED, "jpg", "Images"),
    "flickr8k_token": ("Flickr8k.token.txt", TOKENS),
}.items():
    add(f"picture_{name}", table, *given, pairs=right("jpg", FIVE))


def two_tables(folder: Path) -> Path:
    both = rows("file_name", "text")
    save(folder / "train.csv", csv_text(both[:16]))
    save(folder / "val.csv", csv_text(both[16:]))
    return pictures(folder)


def coco(folder: Path, name: str, below: str) -> Path:
    """Two captions a picture, in another order than the pictures."""
    numbers = range(len(PAIRS))
    whole = {
        "info": {"description": "Plates"},
        "images": [
            {"id": n + 7, "file_name": name_of(n), "width": 24, "height": 24} for n in numbers
        ],
        "annotations": [
            {"id": 10 * n + view, "image_id": n + 7, "caption": FIVE[n][view]}
            for view in (1, 0)
            for n in reversed(numbers)
        ],
    }
    save(folder / name, json.dumps(whole))
    pictures(folder / below)
    return folder


add("picture_two_tables", two_tables, pairs=right())
TWO = [texts[:2] for texts in FIVE]
add("picture_coco", coco, "captions_val.json", "images", pairs=right("jpg", TWO))
OFFICIAL = ("annotations/captions_val2017.json", "val2017")
add("picture_coco_official", coco, *OFFICIAL, pairs=right("jpg", TWO))


def img2dataset(folder: Path) -> Path:
    inside = pictures(folder / "00000")
    for number, caption in enumerate(CAPTIONS):
        save((inside / name_of(number)).with_suffix(".txt"), caption)
        told = {"caption": caption, "key": f"{number:09d}", "status": "success", "width": 24}
        save((inside / name_of(number)).with_suffix(".json"), json.dumps(told))
    save(folder / "00000_stats.json", json.dumps({"count": len(PAIRS), "successes": len(PAIRS)}))
    return folder


def archive(path: Path, numbers: Iterable[int], kind: str) -> Path:
    with tarfile.open(path, "w") as made:
        for number in numbers:
            parts = {kind: picture(number, kind), "txt": CAPTIONS[number].encode()}
            for suffix, data in parts.items():
                member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                member.size = len(data)
                made.addfile(member, io.BytesIO(data))
    return path


def archives(folder: Path) -> Path:
    for place in range(3):
        archive(folder / f"{place:05d}.tar", range(8 * place, 8 * place + 8), "jpg")
    return folder


add("picture_img2dataset", img2dataset, pairs=right())
for kind in FORMS:
    add(
        f"picture_webdataset_{kind}",
        lambda folder, kind: archive(folder / "00000.tar", range(24), kind),
        kind,
        pairs=right(kind),
    )
add("picture_webdataset_folder", archives, pairs=right())


def classes(folder: Path) -> Path:
    """Three pictures a class, in folders of their names."""
    for number in range(len(PAIRS)):
        path = folder / "birds" / f"kind_{number % 8}" / name_of(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    return folder


def of_classes() -> Pairs:
    for number in range(len(PAIRS)):
        yield f"kind {number % 8}", keep_picture(decode(picture(number)))


add("picture_class_folders", classes, pairs=of_classes)
