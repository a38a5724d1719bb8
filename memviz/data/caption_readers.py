"""Readers of real pictures with captions: COCO, a folder with a table, webdataset shards.

Nothing is downloaded or executed. File names and captions come from others: a name that leads out
of the given folder is refused, and captions are reduced to one plain line.
"""

from __future__ import annotations

import csv
import json
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from memviz.data.caption_pairs import CaptionPairs, Picture, Stretch, plain_caption

PICTURES = ("jpg", "jpeg", "png", "webp")
LONGEST_TEXT = 1 << 20  # Bytes of a caption or its JSON in a shard; more is no caption.

Labels = Mapping[str, Iterable[str]]


def read_coco(
    captions: str | Path, instances: str | Path, images: str | Path, *, caption: int | None = 0
) -> CaptionPairs:
    """Read COCO captions with the object categories of each picture.

    Parameters
    ----------
    captions, instances : COCO's JSON files, ``captions_val2017.json`` and
        ``instances_val2017.json`` for example.
    images : the folder of the pictures; they are opened later.
    caption : which of a picture's captions, 0 the first; None makes each caption a pair.

    Returns
    -------
    One pair a picture in the order of ``captions``, or one a caption. ``objects`` are the
    categories with at least one box that is not a crowd's; columns in the order of the file.

    Raises
    ------
    FileNotFoundError, ValueError : a file is missing, no such JSON, or a name leads elsewhere.

    Examples
    --------
    >>> read_coco("captions.json", "instances.json", "nowhere")
    Traceback (most recent call last):
    FileNotFoundError: there is no folder of pictures 'nowhere'.
    """
    folder = _folder(images)
    told = _json(captions, "annotations", "images")
    shown = _json(instances, "annotations", "categories")
    texts: dict[int, list[str]] = defaultdict(list)
    present: dict[int, set[str]] = defaultdict(set)
    try:
        names = {entry["id"]: str(entry["name"]) for entry in shown["categories"]}
        for entry in told["annotations"]:
            texts[entry["image_id"]].append(entry["caption"])
        for entry in shown["annotations"]:
            if not entry.get("iscrowd", 0):
                present[entry["image_id"]].add(names[entry["category_id"]])
        rows = [
            (str(entry["id"]), str(entry["file_name"]), text, present[entry["id"]])
            for entry in told["images"]
            for text in _chosen(texts[entry["id"]], caption)
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{captions} and {instances} are no COCO annotations of one set: {error!r} is missing."
        ) from None
    return _pairs(
        [row[0] for row in rows],
        [_inside(folder, row[1]) for row in rows],
        [row[2] for row in rows],
        [row[3] for row in rows],
        list(names.values()),
    )


def read_captions_csv(
    table: str | Path,
    images: str | Path,
    *,
    image_column: str = "image",
    caption_column: str = "caption",
    labels: Labels | None = None,
) -> CaptionPairs:
    """Read a folder of pictures whose captions stand in a CSV table with a header.

    Parameters
    ----------
    table : one row a caption, UTF-8; a picture may have several.
    labels : file name to the names of the objects in the picture, a detector's for example
        (``read_labels`` reads them from a table); without it there are no classes.

    Raises
    ------
    FileNotFoundError, ValueError : a file or a column is missing, or a name leads elsewhere.
    """
    folder = _folder(images)
    rows = _table(table, image_column, caption_column)
    ids = [row[0] for row in rows]
    return _pairs(
        ids,
        [_inside(folder, name) for name in ids],
        [row[1] for row in rows],
        _objects(ids, labels),
    )


def read_webdataset(
    shards: str | Path | Sequence[str | Path], *, labels: Labels | None = None
) -> CaptionPairs:
    """Read webdataset shards: tar files in which a pair's files share the name before the dot.

    A pair has a picture (jpg, jpeg, png, webp) and a caption (``.txt``, or ``"caption"`` in
    ``.json``). Objects are the list ``"objects"`` of the ``.json``, unless ``labels`` names them
    by the pair's name. Only names and captions are read here; pictures stay in their shard until
    asked for. Entries without both parts are left out.

    Raises
    ------
    FileNotFoundError, ValueError : no shards, a compressed or damaged one, or one without pairs.
    """
    given = [shards] if isinstance(shards, str | Path) else list(shards)
    ids: list[str] = []
    pictures: list[Picture] = []
    captions: list[str] = []
    found: list[Iterable[str]] = []
    for shard in given:
        for key, parts in _entries(Path(shard)).items():
            picture = next((parts[kind] for kind in PICTURES if kind in parts), None)
            about = _about(parts, shard)
            if picture is None or "caption" not in about:
                continue
            ids.append(key)
            pictures.append(picture)
            captions.append(about["caption"])
            found.append(about.get("objects", ()))
    if not ids:
        raise ValueError(
            f"no pair of a picture and a caption is in {', '.join(map(str, given)) or 'no shards'};"
            " a pair is KEY.jpg with KEY.txt, or with KEY.json that holds a caption."
        )
    return _pairs(ids, pictures, captions, found if labels is None else _objects(ids, labels))


def read_labels(
    table: str | Path, *, image_column: str = "image", object_column: str = "object"
) -> dict[str, list[str]]:
    """Read objects of pictures from a CSV table, one row an object: a detector's labels.

    Raises
    ------
    FileNotFoundError, ValueError : the file or a column is missing.
    """
    labels: dict[str, list[str]] = defaultdict(list)
    for name, thing in _table(table, image_column, object_column):
        labels[name].append(thing)
    return dict(labels)


def _pairs(
    ids: Sequence[str],
    pictures: Sequence[Picture],
    captions: Sequence[object],
    present: Sequence[Iterable[str]],
    classes: Sequence[str] | None = None,
) -> CaptionPairs:
    texts = []
    for name, caption in zip(ids, captions, strict=True):
        try:
            texts.append(plain_caption(caption))
        except ValueError as error:
            raise ValueError(f"pair {name!r}: {error}") from None
    kept = [set(things) for things in present]
    columns = sorted(set().union(*kept)) if classes is None else list(classes)
    column = {name: index for index, name in enumerate(columns)}
    objects = torch.zeros(len(ids), len(columns), dtype=torch.bool)
    for row, things in enumerate(kept):
        objects[row, [column[thing] for thing in things]] = True
    return CaptionPairs(pictures, texts, objects, columns, list(ids))


def _objects(ids: Sequence[str], labels: Labels | None) -> list[Iterable[str]]:
    if labels is None:
        return [() for _ in ids]
    if not any(name in labels for name in ids):
        raise ValueError(
            f"labels names none of the pictures; its names must be those of the pairs, such as "
            f"{ids[0] if ids else ''!r}."
        )
    return [labels.get(name, ()) for name in ids]


def _chosen(texts: list[str], caption: int | None) -> list[str]:
    return texts if caption is None else texts[caption : caption + 1]


def _folder(path: str | Path) -> Path:
    if not Path(path).is_dir():
        raise FileNotFoundError(f"there is no folder of pictures {str(path)!r}.")
    return Path(path)


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"the picture {name!r} lies outside {folder}; it is not read.")
    return path


def _json(path: str | Path, *needed: str) -> dict[str, Any]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}.")
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}).") from None
    if not isinstance(found, dict) or any(not isinstance(found.get(n), list) for n in needed):
        raise ValueError(f"{path} has no lists {' and '.join(needed)}; give COCO annotations.")
    return found


def _table(path: str | Path, *columns: str) -> list[tuple[str, ...]]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}.")
    with Path(path).open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(
                f"{path} has no column {missing[0]!r}; its first line must name the columns, and "
                f"it names {', '.join(reader.fieldnames or ['none'])}."
            )
        return [tuple(row[name] or "" for name in columns) for row in reader]


def _entries(shard: Path) -> dict[str, dict[str, Stretch]]:
    """Name of a pair to its parts by their ending, each where it lies in the shard."""
    if not shard.is_file():
        raise FileNotFoundError(f"there is no shard {str(shard)!r}.")
    entries: dict[str, dict[str, Stretch]] = defaultdict(dict)
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                folder, _, file = member.name.rpartition("/")
                key, _, ending = file.partition(".")
                if member.isfile():
                    place = Stretch(shard, member.offset_data, member.size)
                    entries[f"{folder}/{key}" if folder else key][ending.lower()] = place
    except tarfile.TarError as error:
        raise ValueError(
            f"{shard} is no plain tar file, or it is cut ({error}); unpack compressed ones first."
        ) from None
    return entries


def _about(parts: Mapping[str, Stretch], shard: str | Path) -> dict[str, Any]:
    """Caption and objects of a pair, as far as its parts tell them."""
    texts = {
        kind: parts[kind].read().decode("utf-8", errors="replace")
        for kind in ("json", "txt")
        if kind in parts and parts[kind].size <= LONGEST_TEXT
    }
    try:
        about = json.loads(texts.get("json", "{}"))
    except ValueError as error:
        raise ValueError(f"a .json in {shard} can't be read ({error}).") from None
    if not isinstance(about, dict):
        about = {}
    if "txt" in texts:
        about["caption"] = texts["txt"]
    things = about.get("objects", [])
    if not isinstance(things, list) or not all(isinstance(thing, str) for thing in things):
        raise ValueError(f'"objects" in a .json of {shard} must be a list of names.')
    return about
