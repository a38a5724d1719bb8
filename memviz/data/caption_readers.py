"""Readers of real pictures with captions: COCO, a folder with a table, webdataset shards.

Nothing is downloaded or executed. File names and captions are untrusted: a name that leads out of
the given folder is refused, and captions are reduced to one line of plain text.
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

from memviz.checks import check_file, coded, listed, quoted, read_json
from memviz.data.caption_pairs import CaptionPairs, Picture, Stretch, plain_caption

PICTURES = ("jpg", "jpeg", "png", "webp")
LONGEST_TEXT = 1 << 20  # Bytes of a caption or its JSON in a shard; anything longer is skipped.
LARGEST = 1 << 31  # Bytes of a table or of COCO's JSON, which are read into memory.

Labels = Mapping[str, Iterable[str]]


def read_coco(
    captions: str | Path, instances: str | Path, images: str | Path, *, caption: int | None = 0
) -> CaptionPairs:
    """Read COCO captions with the object categories of each picture.

    Parameters
    ----------
    captions, instances : COCO's JSON files, for example ``captions_val2017.json`` and
        ``instances_val2017.json``.
    images : the folder of the pictures; they are opened later.
    caption : which of a picture's captions, 0 for the first; None makes each caption a pair.

    Returns
    -------
    CaptionPairs
        One pair per picture in the order of ``captions``, or one per caption. ``objects`` are the
        categories with at least one box that is not of a crowd; columns in the order of the file.

    Raises
    ------
    FileNotFoundError, ValueError : a file is missing or is not COCO's JSON, or a name leads out
        of the folder.

    Examples
    --------
    >>> read_coco("captions.json", "instances.json", "nowhere")
    Traceback (most recent call last):
    FileNotFoundError: there is no folder of pictures 'nowhere'.
    """
    folder = _folder(images)
    captioned = _json(captions, "annotations", "images")
    annotated = _json(instances, "annotations", "categories")
    texts: dict[int, list[str]] = defaultdict(list)
    present: dict[int, set[str]] = defaultdict(set)
    try:
        names = {entry["id"]: str(entry["name"]) for entry in annotated["categories"]}
        for entry in captioned["annotations"]:
            texts[entry["image_id"]].append(entry["caption"])
        for entry in annotated["annotations"]:
            if not entry.get("iscrowd", 0):
                present[entry["image_id"]].add(names[entry["category_id"]])
        rows = [
            (str(entry["id"]), str(entry["file_name"]), text, present[entry["id"]])
            for entry in captioned["images"]
            for text in _chosen(texts[entry["id"]], caption)
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{quoted(str(captions))} and {quoted(str(instances))} are not COCO annotations of the "
            f"same set: {quoted(error)} is missing; give both files of one set."
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
    r"""Read a folder of pictures whose captions are in a CSV table with a header.

    Parameters
    ----------
    table : one row per caption, UTF-8; a picture may have several.
    images : the folder of the pictures; they are opened later.
    image_column, caption_column : the columns of the file names and of the captions.
    labels : file name to the names of the objects in the picture, e.g. from a detector
        (``read_labels`` reads them from a table); without it there are no classes.

    Raises
    ------
    FileNotFoundError, ValueError : a file or a column is missing, or a name leads out of the
        folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder) / "captions.csv"
    ...     _ = table.write_text("image,caption\na.png,a dog\n")
    ...     read_captions_csv(table, folder, labels={"a.png": ["dog"]})
    CaptionPairs(1 pairs, 1 classes)
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
    ``.json``); entries without both are left out. Objects are the list ``"objects"`` of the
    ``.json``, unless ``labels`` gives them by the pair's name. Only names and captions are read
    here; pictures stay in their shard until needed.

    Raises
    ------
    FileNotFoundError, ValueError : no shards, a compressed or damaged one, or none with pairs.
    """
    paths = [shards] if isinstance(shards, str | Path) else list(shards)
    ids: list[str] = []
    pictures: list[Picture] = []
    captions: list[str] = []
    objects: list[Iterable[str]] = []
    for shard in paths:
        for key, parts in _entries(Path(shard)).items():
            picture = next((parts[kind] for kind in PICTURES if kind in parts), None)
            about = _about(parts, shard)
            if picture is None or "caption" not in about:
                continue
            ids.append(key)
            pictures.append(picture)
            captions.append(about["caption"])
            objects.append(about.get("objects", ()))
    if not ids:
        raise ValueError(
            f"there is no pair of picture and caption in "
            f"{listed(map(str, paths)) or 'no shards'};"
            " a pair is KEY.jpg with KEY.txt, or with a KEY.json that holds a caption."
        )
    return _pairs(ids, pictures, captions, objects if labels is None else _objects(ids, labels))


def read_labels(
    table: str | Path, *, image_column: str = "image", object_column: str = "object"
) -> dict[str, list[str]]:
    r"""Read the objects of pictures, e.g. a detector's, from a CSV table with one row per object.

    Raises
    ------
    FileNotFoundError, ValueError : the file or a column is missing.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder) / "objects.csv"
    ...     _ = table.write_text("image,object\na.png,dog\na.png,ball\n")
    ...     read_labels(table)
    {'a.png': ['dog', 'ball']}
    """
    labels: dict[str, list[str]] = defaultdict(list)
    for name, label in _table(table, image_column, object_column):
        labels[name].append(label)
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
            raise ValueError(f"pair {quoted(name)}: {error}") from None
    names = [set(objects) for objects in present]
    columns = sorted(set().union(*names)) if classes is None else list(classes)
    column = {name: index for index, name in enumerate(columns)}
    table = torch.zeros(len(ids), len(columns), dtype=torch.bool)
    for row, objects in enumerate(names):
        table[row, [column[name] for name in objects]] = True
    return CaptionPairs(pictures, texts, table, columns, list(ids))


def _objects(ids: Sequence[str], labels: Labels | None) -> list[Iterable[str]]:
    if labels is None:
        return [() for _ in ids]
    if not any(name in labels for name in ids):
        raise ValueError(
            f"labels has none of the pictures; its keys must be the names of the pairs, such as "
            f"{quoted(ids[0] if ids else '')}."
        )
    return [labels.get(name, ()) for name in ids]


def _chosen(texts: list[str], caption: int | None) -> list[str]:
    return texts if caption is None else texts[caption : caption + 1]


def _folder(path: str | Path) -> Path:
    if not Path(path).is_dir():
        raise FileNotFoundError(f"there is no folder of pictures {quoted(str(path))}.")
    return Path(path)


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    try:
        # resolve() follows both ".." and symbolic links.
        is_inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # a name that no file can have, links in a circle
        is_inside = False
    if not is_inside:
        raise ValueError(
            f"the picture {quoted(name)} is outside {quoted(str(folder))}, so it is not read."
        )
    return path


def _json(path: str | Path, *needed: str) -> dict[str, Any]:
    try:
        content = read_json(path, LARGEST)
    except ValueError as error:
        raise ValueError(f"{str(error).rstrip('.')}; give COCO annotations.") from None
    if not isinstance(content, dict) or any(not isinstance(content.get(n), list) for n in needed):
        raise ValueError(
            f"{quoted(str(path))} has no lists {' and '.join(needed)}; give COCO annotations."
        )
    return content


def _table(path: str | Path, *columns: str) -> list[tuple[str, ...]]:
    check_file(path, LARGEST)
    try:
        with Path(path).open(encoding="utf-8", errors="replace", newline="") as file:
            reader = csv.DictReader(file)
            there = reader.fieldnames or ["none"]
            missing = [name for name in columns if name not in there]
            rows = [] if missing else [tuple(row[name] or "" for name in columns) for row in reader]
    except csv.Error as error:
        raise ValueError(
            coded("E33", f"{quoted(str(path))} can't be read as a CSV table ({error}).")
        ) from None
    if missing:
        raise ValueError(
            f"{quoted(str(path))} has no column {quoted(missing[0])}; its first line must name the "
            f"columns, and names {listed(there)}."
        )
    return rows


def _entries(shard: Path) -> dict[str, dict[str, Stretch]]:
    """The byte ranges in a shard: by name of the pair, then by file extension."""
    check_file(shard)
    entries: dict[str, dict[str, Stretch]] = defaultdict(dict)
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                folder, _, file = member.name.rpartition("/")
                key, _, ending = file.partition(".")
                if member.isfile():
                    place = Stretch(shard, member.offset_data, max(0, member.size))
                    entries[f"{folder}/{key}" if folder else key][ending.lower()] = place
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{quoted(str(shard))} is not a plain tar file, or is truncated ({error}); "
            "decompress it first."
        ) from None
    return entries


def _about(parts: Mapping[str, Stretch], shard: str | Path) -> dict[str, Any]:
    """The caption and the objects of a pair, if its parts hold them."""
    texts = {
        kind: parts[kind].read().decode("utf-8", errors="replace")
        for kind in ("json", "txt")
        if kind in parts and parts[kind].size <= LONGEST_TEXT
    }
    try:
        about = json.loads(texts.get("json", "{}"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a .json in {quoted(str(shard))} can't be read ({error}).") from None
    if not isinstance(about, dict):
        about = {}
    if "txt" in texts:
        about["caption"] = texts["txt"]
    objects = about.get("objects", [])
    if not isinstance(objects, list) or not all(isinstance(name, str) for name in objects):
        raise ValueError(f'"objects" in a .json of {quoted(str(shard))} must be a list of names.')
    return about
