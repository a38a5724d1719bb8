"""Pictures with captions: their truth, their files and their faults."""

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from memviz.data.caption_pairs import CaptionPairs, plain_caption
from memviz.data.caption_readers import read_captions_csv, read_coco, read_labels, read_webdataset

# Photos that may not be redistributed: a folder with COCO's JSON files and images beside them.
COCO = Path(os.environ.get("MEMVIZ_COCO", "none given"))


def encoded(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((6, 5, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    for index in range(3):
        (tmp_path / f"{index}.png").write_bytes(encoded(40 * index))
    return tmp_path


@pytest.fixture
def coco(folder):
    images = [{"id": i, "file_name": f"{i}.png"} for i in range(3)]
    texts = [(0, "a dog"), (1, "a cat"), (0, "one dog"), (2, "nothing\there")]
    boxes = [(0, 7, 0), (0, 7, 0), (0, 9, 1), (1, 9, 0)]
    told = {
        "images": images,
        "annotations": [{"image_id": i, "caption": text} for i, text in texts],
    }
    shown = {
        "categories": [{"id": 9, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [{"image_id": i, "category_id": c, "iscrowd": k} for i, c, k in boxes],
    }
    (folder / "captions.json").write_text(json.dumps(told))
    (folder / "instances.json").write_text(json.dumps(shown))
    return folder / "captions.json", folder / "instances.json", folder


def test_coco_by_hand(coco):
    pairs = read_coco(*coco)
    assert pairs.captions == ["a dog", "a cat", "nothing here"]
    assert list(pairs.class_names) == ["cat", "dog"]
    # A crowd's box is no object of the picture; a picture may have none.
    assert pairs.objects.tolist() == [[False, True], [True, False], [False, False]]
    assert pairs.image(1).getpixel((0, 0)) == (40, 40, 40)
    assert [pairs.id(i) for i in range(3)] == ["0", "1", "2"]
    every = read_coco(*coco, caption=None)
    assert every.captions == ["a dog", "one dog", "a cat", "nothing here"]
    assert len(read_coco(*coco, caption=1)) == 1


def test_coco_faults(coco, tmp_path):
    captions, instances, images = coco
    with pytest.raises(FileNotFoundError, match="no folder"):
        read_coco(captions, instances, tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no file"):
        read_coco(tmp_path / "none.json", instances, images)
    with pytest.raises(ValueError, match="categories"):
        read_coco(captions, captions, images)
    captions.write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        read_coco(captions, instances, images)
    captions.write_text(
        json.dumps({"images": [{"id": 1}], "annotations": [{"image_id": 1, "caption": "a"}]})
    )
    with pytest.raises(ValueError, match="file_name"):
        read_coco(captions, instances, images)


def test_a_name_that_leads_elsewhere_is_refused(folder):
    table = folder / "captions.csv"
    table.write_text("image,caption\n../../etc/passwd,a dog\n")
    with pytest.raises(ValueError, match="outside"):
        read_captions_csv(table, folder)


def test_table_with_labels(folder):
    table, labels = folder / "captions.csv", folder / "labels.csv"
    table.write_text('image,caption\n0.png,"a dog, seen"\n2.png,<b>a cat</b>\n')
    labels.write_text("image,object\n0.png,dog\n0.png,ball\n1.png,cow\n")
    pairs = read_captions_csv(table, folder, labels=read_labels(labels))
    assert pairs.captions == ["a dog, seen", "<b>a cat</b>"]
    assert pairs.object_names(0) == ["ball", "dog"]
    assert pairs.object_names(1) == []
    assert read_captions_csv(table, folder).objects.shape == (2, 0)
    with pytest.raises(ValueError, match="none of the pictures"):
        read_captions_csv(table, folder, labels={"dog.png": ["dog"]})
    with pytest.raises(ValueError, match="no column 'text'"):
        read_captions_csv(table, folder, caption_column="text")
    table.write_text("image,caption\n0.png,\n")
    with pytest.raises(ValueError, match="'0.png': a caption is empty"):
        read_captions_csv(table, folder)


def shard(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_webdataset(tmp_path):
    about = json.dumps({"caption": "a cat", "objects": ["cat", "mat"]}).encode()
    first = shard(
        tmp_path / "0.tar",
        {"a.png": encoded(9), "a.txt": b"a dog", "b.cls": b"3", "c.png": encoded(1)},
    )
    second = shard(tmp_path / "1.tar", {"d/e.json": about, "d/e.png": encoded(70)})
    pairs = read_webdataset([first, second])
    assert pairs.captions == ["a dog", "a cat"]
    assert [pairs.id(0), pairs.id(1)] == ["a", "d/e"]
    assert pairs.object_names(1) == ["cat", "mat"] and pairs.object_names(0) == []
    assert pairs.image(1).getpixel((4, 5)) == (70, 70, 70)
    assert read_webdataset(first, labels={"a": ["dog"]}).object_names(0) == ["dog"]


def test_shard_faults(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_webdataset(tmp_path / "none.tar")
    with pytest.raises(ValueError, match="no pair"):
        read_webdataset(shard(tmp_path / "empty.tar", {"a.txt": b"a dog"}))
    (tmp_path / "cut.tar").write_bytes(b"\x1f\x8b not a tar" * 100)
    with pytest.raises(ValueError, match="not a plain tar"):
        read_webdataset(tmp_path / "cut.tar")


def test_captions_that_are_no_files(coco, tmp_path):
    _, instances, images = coco
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "deep.json").write_text('{"images":' * 100_000)
    for read in (
        lambda path: read_coco(path, instances, images),
        lambda path: read_captions_csv(path, images),
        read_labels,
        read_webdataset,
    ):
        for path, words in ((tmp_path / "pipe", "a pipe"), (tmp_path, "a folder")):
            with pytest.raises(ValueError, match=f"is {words}, not a file"):
                read(path)
    with pytest.raises(ValueError, match="is not JSON .nested too deeply.; give COCO"):
        read_coco(tmp_path / "deep.json", instances, images)
    deep = shard(tmp_path / "deep.tar", {"a.png": encoded(1), "a.json": b"[" * 100_000})
    with pytest.raises(ValueError, match="a .json in .* can't be read"):
        read_webdataset(deep)
    table = tmp_path / "long.csv"
    table.write_text("image,caption\na.png," + "x" * 200_000)
    with pytest.raises(ValueError, match="can't be read as a CSV table"):
        read_captions_csv(table, images)
    for name in ("a\0b", "loop"):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        if name == "loop":
            (tmp_path / "pictures" / name).symlink_to(tmp_path / "pictures" / name)
        table.write_text(f"image,caption\n{name},a dog\n")
        with pytest.raises(ValueError, match=r"is outside .*, so it is not read|can't be read"):
            read_captions_csv(table, tmp_path / "pictures").image(0)


def test_a_picture_that_is_a_pipe(folder):
    os.mkfifo(folder / "pipe.png")
    table = folder / "captions.csv"
    table.write_text("image,caption\npipe.png,a\n0.png,b\n")
    assert read_captions_csv(table, folder).readable().tolist() == [False, True]


def test_damaged_shards_and_tables(coco, folder, tmp_path):
    captions, instances, images = coco
    whole = shard(tmp_path / "a.tar", {"a.png": encoded(9), "a.txt": b"a dog", "b.json": b"{}"})
    table = folder / "captions.csv"
    table.write_text('image,caption\n0.png,"a dog, seen"\n2.png,a cat\n')
    random = np.random.default_rng(0)
    for file, read in (
        (whole, lambda: read_webdataset(whole)),
        (table, lambda: read_captions_csv(table, folder)),
        (captions, lambda: read_coco(captions, instances, images)),
        (instances, lambda: read_coco(captions, instances, images)),
    ):
        content = file.read_bytes()
        for _ in range(150):
            damaged = bytearray(content)
            for place in random.integers(min(len(content), 2000), size=3):
                damaged[place] ^= 1 << int(random.integers(8))
            file.write_bytes(damaged)
            try:
                read().readable()
            except (ValueError, FileNotFoundError) as error:
                assert any(word in str(error) for word in (str(tmp_path), "pair", "caption"))  # noqa: PT017
        file.write_bytes(content)


def test_broken_pictures_are_found_and_named(folder):
    (folder / "1.png").write_bytes(encoded(3)[:40])
    table = folder / "captions.csv"
    table.write_text("image,caption\n0.png,a\n1.png,b\n9.png,c\n2.png,d\n")
    pairs = read_captions_csv(table, folder)
    assert pairs.readable().tolist() == [True, False, False, True]
    for wrong in ("1.png", "9.png"):
        with pytest.raises(ValueError, match=f"pair '{wrong}' can't be read"):
            pairs.image([pairs.id(i) for i in range(4)].index(wrong))
    kept = pairs.subset(pairs.readable())
    assert kept.captions == ["a", "d"] and kept.id(1) == "2.png"
    assert len(set(kept.digests())) == 2


def test_digest_tells_pixels_not_files(folder):
    Image.open(folder / "1.png").save(folder / "2.webp", lossless=True)
    pairs = CaptionPairs(
        [folder / "1.png", folder / "2.webp", np.full((6, 5, 3), 40, np.uint8), folder / "2.png"],
        list("abcd"),
        torch.zeros(4, 0, dtype=torch.bool),
        [],
    )
    first, second, third, other = pairs.digests()
    assert first == second == third != other


@given(st.text(max_size=40))
def test_captions_become_one_plain_line(text):
    try:
        plain = plain_caption(text)
    except ValueError:
        assert not "".join(c for c in text if c.isprintable()).strip()
        return
    assert plain == " ".join(plain.split())
    assert all(ord(c) >= 32 and c != "\u202e" for c in plain)
    assert plain_caption(plain) == plain


@pytest.mark.parametrize("wrong", [None, 3, float("nan")])
def test_a_caption_is_text(wrong):
    with pytest.raises(ValueError, match="must be a str"):
        plain_caption(wrong)


def test_lengths_must_agree():
    picture, table = np.zeros((2, 2, 3), np.uint8), torch.zeros(1, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match="give one of each"):
        CaptionPairs([picture], ["a", "b"], table, ["x", "y"])
    with pytest.raises(ValueError, match=r"bool \[1, 1\]"):
        CaptionPairs([picture], ["a"], table, ["x"])
    with pytest.raises(ValueError, match="no pairs"):
        CaptionPairs([], [], table[:0], ["x", "y"])


@pytest.mark.skipif(not COCO.is_dir(), reason="the COCO photos are not here")
def test_real_coco():
    pairs = read_coco(COCO / "captions.json", COCO / "instances.json", COCO / "images")
    assert len(pairs) > 100 and len(pairs.class_names) == 80
    assert float(pairs.objects.any(1).float().mean()) > 0.95
    assert pairs.image(0).mode == "RGB"
    assert bool(pairs.readable().all())
