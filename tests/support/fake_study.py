"""Messages as the kernel would send them, for a digits-like study; nothing here is measured."""

import base64
import io

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

LAYERS = [("conv1", 32), ("conv2", 32), ("conv3", 64), ("conv4", 64), ("fc", 128)]
OFF = "conv2:11,27 conv4:5,15,43,46,59 fc:85"
UNKNOWN = 65535


def pack(msg: dict, **arrays: np.ndarray) -> dict:
    """A message and its buffers, base64 as in a saved page."""
    specs = [{"name": k, "dtype": str(a.dtype), "shape": list(a.shape)} for k, a in arrays.items()]
    buffers = [
        base64.b64encode(np.ascontiguousarray(a).tobytes()).decode() for a in arrays.values()
    ]
    return {"msg": {**msg, "arrays": specs}, "buffers": buffers}


class FakeStudy:
    """A study of `examples` pictures and the layers given, with plausible figures."""

    def __init__(self, layers=LAYERS, examples=1797, classes=None, seed=0):
        rng = self.rng = np.random.default_rng(seed)
        digits = load_digits()
        self.layers, self.n = layers, examples
        self.images = np.resize((digits.images * 15.9375).astype(np.uint8), (examples, 8, 8))
        self.truth = np.resize(digits.target, examples).astype(np.uint16)
        self.classes = classes or [str(i) for i in range(10)]
        train, memorized = int(examples * 0.668), int(examples * 0.0668)
        order = rng.permutation(examples)
        self.group = np.full(examples, 2, np.uint8)
        self.group[order[:train]] = 1
        self.group[order[:memorized]] = 0
        self.label = self.truth.copy()
        wrong = self.group == 0
        self.label[wrong] = (self.truth[wrong] + rng.integers(1, 10, wrong.sum())) % 10
        self.before = self.label.copy()
        self.miss(self.before, np.flatnonzero(self.group == 2), 0.05)
        self.after = self.before.copy()
        lost = rng.choice(np.flatnonzero(wrong), int(wrong.sum() * 0.567), replace=False)
        self.after[lost] = np.where(
            rng.random(len(lost)) < 0.74, self.truth[lost], (self.label[lost] + 3) % 10
        )
        self.miss(self.after, np.flatnonzero(self.group == 1), 0.02)
        self.miss(self.after, np.flatnonzero(self.group == 2), 0.04)
        self.change = -rng.gamma(1.5, np.where(self.before != self.after, 3.0, 0.6)).astype(
            np.float32
        )
        units = self.units = sum(n for _, n in layers)
        self.value = np.concatenate(
            [
                rng.gamma(0.9, s, n)
                for (_, n), s in zip(
                    layers, np.resize([3, 9, 3, 7, 6], len(layers)) / 1000, strict=True
                )
            ]
        ).astype(np.float32)
        self.state_of = np.full(units, 2, np.uint8)
        self.state_of[-max(1, units // 10) :] = 1

    def miss(self, said, where, share):
        chosen = self.rng.choice(where, int(len(where) * share), replace=False)
        said[chosen] = (said[chosen] + self.rng.integers(1, 10, len(chosen))) % 10

    def study(self, **over) -> dict:
        start, layers = 0, []
        for name, units in self.layers:
            layers.append(
                {
                    "name": name,
                    "label": name,
                    "one": f"{name} unit",
                    "kind": "conv" if "conv" in name else "linear",
                    "units": units,
                    "start": start,
                }
            )
            start += units
        names = ["memorized", "clean", "test"]
        msg = {
            "type": "study",
            "name": "digits",
            "classes": self.classes,
            "layers": layers,
            "units": self.units,
            "summary": "4-conv net · 1,200 training images, 120 with wrong labels",
            "of_words": f"{self.units} units",
            "groups": [
                {"name": g, "count": int((self.group == i).sum())} for i, g in enumerate(names)
            ],
            "scores": [
                {
                    "key": "effect",
                    "label": "exact effect on memorized examples",
                    "kind": "exact",
                    "measure": "margin lost, mean of 120",
                },
                {
                    "key": "grad",
                    "label": "gradient × activation",
                    "kind": "estimate",
                    "measure": "margin lost, estimated",
                },
            ],
            "interventions": [{"key": k, "label": k} for k in ("zero", "mean", "filter")],
            "image": {"height": 8, "width": 8, "channels": 1, "ink": True, "scale_note": ""},
            "examples": self.n,
            "demo": True,
            "methods": [
                {"key": "ig", "label": "integrated gradients"},
                {"key": "saliency", "label": "saliency"},
            ],
        }
        return pack({**msg, **over}, label=self.label, truth=self.truth, group=self.group)

    def sprites(self) -> list[dict]:
        out, of = [], -(-self.n // 512)
        for index in range(of):
            tiles = self.images[index * 512 : (index + 1) * 512]
            rows = -(-len(tiles) // 32)
            sheet = np.zeros((rows * 32, 8, 8), np.uint8)
            sheet[: len(tiles)] = tiles
            picture = sheet.reshape(rows, 32, 8, 8).swapaxes(1, 2).reshape(rows * 8, 256)
            png = io.BytesIO()
            Image.fromarray(picture).save(png, "PNG")
            msg = {
                "type": "sprites",
                "tile": [8, 8],
                "columns": 32,
                "first": index * 512,
                "count": len(tiles),
                "index": index,
                "of": of,
            }
            out.append(pack(msg, png=np.frombuffer(png.getvalue(), np.uint8)))
        return out

    def state(self, version=1, **over) -> dict:
        msg = {
            "type": "state",
            "version": version,
            "layers": [n for n, _ in self.layers if n != "conv1"],
            "units": OFF,
            "intervention": "zero",
            "score": "effect",
            "method": "ig",
            "opened": None,
            "undo": True,
            "redo": False,
            "top": None,
        }
        return pack({**msg, **over})

    def side(self, said, i) -> dict:
        inside = self.group == i
        right = int((said[inside] == self.label[inside]).sum())
        p, n = right / inside.sum(), int(inside.sum())
        half = 1.96 * (p * (1 - p) / n + 0.002 / n) ** 0.5
        margin = 8.2 * p - 2.5
        return {
            "accuracy": p,
            "low": max(0, p - half),
            "high": min(1, p + half),
            "correct": right,
            "margin": margin,
            "margin_low": margin - 0.4,
            "margin_high": margin + 0.4,
        }

    def readout(self, version=1, units=8, sentence=None) -> dict:
        groups, words = [], []
        for i, name in enumerate(["memorized", "clean", "test"]):
            a, b = self.before == self.label, self.after == self.label
            mine = self.group == i
            before, after = self.side(self.before, i), self.side(self.after, i)
            groups.append(
                {
                    "name": name,
                    "n": int(mine.sum()),
                    "before": before,
                    "after": after,
                    "right_to_wrong": int((a & ~b & mine).sum()),
                    "wrong_to_right": int((~a & b & mine).sum()),
                    "now_true": int((a & ~b & mine & (self.after == self.truth)).sum())
                    if i == 0
                    else 0,
                }
            )
            words.append(
                f"{name} {before['accuracy']:.0%} → {after['accuracy']:.0%}".replace("%", " %")
            )
        sentence = sentence or f"{units} of {self.units} units ablated: {', '.join(words)}."
        msg = {
            "type": "readout",
            "version": version,
            "sentence": sentence,
            "intervention_words": "activation set to zero",
            "units": units,
            "of": self.units,
            "groups": groups,
        }
        return pack(msg, before=self.before, after=self.after, change=self.change)

    def random(self, version=1) -> dict:
        groups = [
            {"name": n, "accuracy": a, "low": a - 0.03, "high": min(1, a + 0.02), "margin": 5.0}
            for n, a in (("memorized", 0.99), ("clean", 1.0), ("test", 0.93))
        ]
        return pack(
            {
                "type": "random",
                "version": version,
                "units": 8,
                "draws": 200,
                "of": 200,
                "words": "8 random units of the same layers",
                "groups": groups,
            }
        )

    def scores(self, key="effect", kind="exact") -> dict:
        state = self.state_of if kind == "exact" else np.ones(self.units, np.uint8)
        rate = np.array([60.0, 20.0, 20.0])
        lost = self.rng.poisson(np.outer(self.value, rate)).astype(np.uint16)
        pool = np.flatnonzero(self.group == 0)
        most = pool[self.rng.integers(0, len(pool), (self.units, 6))].astype(np.uint32)
        msg = {
            "type": "scores",
            "key": key,
            "label": key,
            "measure": "margin lost, mean of 120",
            "kind": kind,
            "done": int((state == 2).sum()),
            "total": self.units,
            "note": "",
            "floor": 0,
        }
        return pack(msg, value=self.value, state=state, lost=lost, most=most)

    def example(self, index, version=1, method="ig") -> dict:
        image = self.images[index][:, :, None]
        weight = (image[:, :, 0] / 255).astype(np.float32)
        before = weight * self.rng.normal(0, 1, (8, 8)).astype(np.float32)
        after = (before * 0.6 + weight * self.rng.normal(0, 0.3, (8, 8))).astype(np.float32)
        odds = np.full((2, len(self.classes)), 0.01, np.float32)
        odds[0, self.before[index]], odds[1, self.after[index]], odds[1, self.before[index]] = (
            0.94,
            0.5,
            0.18,
        )
        msg = {
            "type": "example",
            "index": int(index),
            "version": version,
            "method": method,
            "target": int(self.label[index]),
            "words": "",
            "group": 0,
            "truth": int(self.truth[index]),
            "before": 0,
            "after": 0,
        }
        return pack(
            msg,
            image=image,
            attr_before=before,
            attr_after=after,
            prob_before=odds[0],
            prob_after=odds[1],
        )

    def messages(self, **state) -> list[dict]:
        """All that follows a hello."""
        return [
            self.study(),
            *self.sprites(),
            self.state(**state),
            self.scores(),
            self.readout(),
            self.random(),
        ]
