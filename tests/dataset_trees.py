"""Miniature data sets of noise, each in its published layout: what the readers are tested on."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

FACET_COLUMNS = [
    *(f"gender_presentation_{each}" for each in ("masc", "fem", "non_binary", "na")),
    *(f"skin_tone_{each}" for each in (*range(1, 11), "na")),
    *(f"age_presentation_{each}" for each in ("young", "middle", "older", "na")),
    *(f"lighting_{each}" for each in ("underexposed", "dimly_lit", "well_lit", "overexposed", "na")),
]


def picture(path: Path, size: tuple[int, int] = (23, 19), orientation: int | None = None) -> None:
    """An image whose red is x and whose green is y, so that a crop shows where it was cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width)[None, :], np.arange(height)[:, None]
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif, quality=95)


def person(number: int, filename: str, occupation: str, box: object, **counts: int) -> dict[str, object]:
    """A row of FACET's annotations: columns that are not named hold 0."""
    row = {"person_id": number, "filename": filename, "class1": occupation, "class2": ""}
    written = box if isinstance(box, str) else json.dumps(dict(zip(("x", "y", "width", "height"), box, strict=True)))
    return row | {"bounding_box": written} | dict.fromkeys(FACET_COLUMNS, 0) | counts


def facet(root: Path) -> list[dict[str, object]]:
    """Five people in four pictures of three folders."""
    people = [
        person(7, "a.jpg", "lawman", (2, 3, 5, 7), gender_presentation_fem=1, age_presentation_young=1, skin_tone_2=3),
        person(8, "a.jpg", "guitarist", (11, 5, 7, 11), gender_presentation_masc=1, skin_tone_6=1, skin_tone_7=1),
        person(9, "b.jpg", "computer_user", (1, 1, 13, 3), gender_presentation_na=1, skin_tone_na=2),
        person(11, "c.jpg", "lawman", (0, 0, 23, 19), gender_presentation_non_binary=1, skin_tone_9=2, skin_tone_1=1),
        person(13, "d.jpg", "guitarist", (5, 2, 3, 17), age_presentation_older=1, lighting_well_lit=1),
    ]
    for name, folder in {"a": 1, "b": 2, "c": 3, "d": 3}.items():
        picture(root / f"imgs_{folder}/{name}.jpg")
    write_facet(root, people)
    return people


def write_facet(root: Path, people: list[dict[str, object]]) -> None:
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    pd.DataFrame(people).to_csv(root / "annotations/annotations.csv", index=False)


FAIRFACE = {
    "train": [("1", "50-59", "Male", "East Asian"), ("2", "3-9", "Female", "Black"), ("3", "3-9", "Male", "White")],
    "val": [("1", "more than 70", "Female", "Latino_Hispanic"), ("2", "10-19", "Male", "Indian")],
}


def fairface(root: Path, images: str = "") -> None:
    for split, faces in FAIRFACE.items():
        lines = [f"{split}/{name}.jpg,{age},{gender},{race},False" for name, age, gender, race in faces]
        root.mkdir(parents=True, exist_ok=True)
        text = "\n".join(["file,age,gender,race,service_test", *lines])
        (root / f"fairface_label_{split}.csv").write_text(text + "\n")
        for name, *_ in faces:
            picture(root / images / split / f"{name}.jpg")


UTKFACE = (
    "100_1_0_20170112213500903.jpg.chip.jpg",
    "2_0_4_20170104230345673.jpg.chip.jpg",
    "26_1_2_20170116184024662.jpg.chip.jpg",
    "61_1_20170109142408075.jpg.chip.jpg",
    "117_0_1_20170110141256231.jpg",
    "69_0_3_20170119212018450.jpg",
)


def utkface(root: Path) -> None:
    for name in UTKFACE:
        picture(root / name)


def waterbirds(root: Path) -> None:
    rows = [
        (1, "001.Black_footed_Albatross/a.jpg", 1, 0, 1, "/o/ocean/00000021.jpg"),
        (2, "001.Black_footed_Albatross/b.jpg", 1, 1, 0, "/b/bamboo_forest/00000022.jpg"),
        (3, "017.Cardinal/c.jpg", 0, 2, 0, "/f/forest/broadleaf/00000023.jpg"),
        (5, "017.Cardinal/d.jpg", 0, 2, 1, "/l/lake/natural/00000024.jpg"),
    ]
    columns = ["img_id", "img_filename", "y", "split", "place", "place_filename"]
    for row in rows:
        picture(root / row[1])
    pd.DataFrame(rows, columns=columns).to_csv(root / "metadata.csv", index=False)


CELEBA = {"000001.jpg": (-1, 1, -1, 0), "000002.jpg": (1, -1, 1, 1), "000003.jpg": (1, 1, -1, 2)}


def celeba(root: Path, attributes: str = "", partition: str = "", images: str = "img_align_celeba") -> None:
    """The lists as published: aligned in columns, with a trailing space in the line of names."""
    lines = [str(len(CELEBA)), "Blond_Hair Male Wearing_Hat "]
    for name, (blond, male, hat, _) in CELEBA.items():
        lines.append(f"{name} {blond:2d} {male:2d} {hat:2d}")
        picture(root / images / name)
    for folder in (attributes, partition):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / attributes / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    parts = "".join(f"{name} {values[-1]}\n" for name, values in CELEBA.items())
    (root / partition / "list_eval_partition.txt").write_text(parts)


def counteranimal(root: Path) -> None:
    for animal, common, counter in (("9 ostrich", "ground", "water"), ("100 black swan", "water", "grass")):
        for i in range(5):
            picture(root / animal / f"common-{common}" / f"{i}.jpg")
        for i in range(3):
            picture(root / animal / f"counter-{counter}" / f"{i}.jpg")
    (root / "imagenet_names.txt").write_text("0\ttench\n")


PAIRS = """job_male,job_female,similarity,job_male_ratio,job_female_ratio
Civil engineer,Marketing manager,0.96,17.1,62.4
Civil engineer,File Clerk,0.94,17.1,80.2
Sales manager,File Clerk,0.93,33.1,80.2
Sales manager,Marketing manager,0.92,33.1,62.4
Baker,Dental hygienist,0.91,40,94.5
"""


def genderbias_vl(root: Path, images: str = "") -> None:
    """Five occupations with both folders, Baker with one, and a folder that no pair names."""
    for occupation in ("Civil_engineer", "Sales_manager", "Marketing_manager", "File_Clerk", "Dental_hygienist"):
        for gender, count in (("female", 3), ("male", 2)):
            for i in range(count):
                picture(root / images / occupation / gender / f"{i}.png")
    picture(root / images / "Baker/male/0.png")
    picture(root / images / "Astronaut/female/0.png")
    (root / "genderbias_occ.csv").write_text(PAIRS)
