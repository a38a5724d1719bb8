"""The contrast of every colour of the views with what it stands on, by the formula of WCAG 2.1.

axe-core measures the texts of a page as it stands; here are also the marks, which it can't see, in
JupyterLab's own themes and without a host.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path

import jupyterlab
import pytest

from memviz.widgets.core import style

TEXT, GRAPHIC = 4.5, 3.0  # success criteria 1.4.3 and 1.4.11, level AA
Colour = tuple[float, float, float, float]

TEXTS = ["ink", "soft", "alert", "own"]
GRAPHICS = ["mem", "clean", "test", "wrong", "down", "up", "null", "focus", "soft"]
# Signs in a filled square: + and − of the attribution, and its legend.
SIGNS = ["o4", "o5", "b4", "b5"]


def sheet(dark: bool) -> dict[str, str]:
    """What the style sheet says of each token."""
    tokens: dict[str, str] = {}
    for head, body in re.findall(r'(\.mv(?:\[data-mv-theme="dark"\])?) \{(.*?)\}', style(), re.S):
        if dark or head == ".mv":
            tokens |= dict(re.findall(r"--mv-(\w+):\s*(.*?);", body))
    return tokens


def jupyterlab_theme(dark: bool) -> dict[str, str]:
    """The variables of the theme that is installed."""
    kind = "dark" if dark else "light"
    name = f"share/jupyter/lab/themes/@jupyterlab/theme-{kind}-extension/index.css"
    found = [up / name for up in Path(jupyterlab.__file__).parents if (up / name).is_file()]
    if not found:
        pytest.skip(f"no {name} beside JupyterLab")
    return dict(re.findall(r"--((?:jp|md)-[\w-]+):\s*([^;}]+)", found[0].read_text()))


def resolved(value: str, host: Mapping[str, str]) -> str:
    """A value without ``var(...)``: what the host gives, else what the sheet falls back on."""
    inside = re.fullmatch(r"var\(--([\w-]+)(?:,\s*(.*))?\)", value.strip())
    if not inside:
        return value.strip()
    name, otherwise = inside.groups()
    return resolved(host.get(name, otherwise), host)


def colour(text: str) -> Colour:
    """Red, green, blue and opacity, 0 to 1."""
    if text.startswith("#"):
        digits = text[1:] if len(text) == 7 else "".join(2 * digit for digit in text[1:])
        red, green, blue = (int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))
        return red, green, blue, 1.0
    if text == "white":
        return 1.0, 1.0, 1.0, 1.0
    red, green, blue, opacity = (float(n) for n in re.findall(r"[\d.]+", text))
    return red / 255, green / 255, blue / 255, opacity


def over(top: Colour, below: Colour) -> Colour:
    """What is seen of a colour that lies on an opaque one."""
    mixed = [a * top[3] + b * (1 - top[3]) for a, b in zip(top[:3], below[:3], strict=True)]
    return mixed[0], mixed[1], mixed[2], 1.0


def luminance(seen: Colour) -> float:
    """Relative luminance, as WCAG 2.1 defines it."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in seen[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(top: Colour, below: Colour) -> float:
    """The ratio of 1.4.3, from 1 to 21."""
    light, dark = sorted((luminance(over(top, below)), luminance(below)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def pairs(tokens: Mapping[str, Colour]) -> Iterator[tuple[str, str, float, float]]:
    """A colour, what it stands on, their contrast and the least that is allowed."""
    grounds = {name: tokens[name] for name in ("paper", "card")}
    washed = {f"wash on {name}": over(tokens["wash"], below) for name, below in grounds.items()}
    wanted = list(product(TEXTS, {**grounds, **washed}.items(), [TEXT]))
    wanted += list(product(GRAPHICS, grounds.items(), [GRAPHIC]))
    wanted += [("on", (name, tokens[name]), TEXT) for name in SIGNS if name in ("o4", "b4")]
    wanted += [("on", (name, tokens[name]), GRAPHIC) for name in SIGNS]
    for name, (ground, below), least in wanted:
        yield name, ground, contrast(tokens[name], below), least


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("hosted", [False, True], ids=["alone", "in JupyterLab"])
def test_every_colour_stands_out_from_its_ground(dark: bool, hosted: bool) -> None:
    host = jupyterlab_theme(dark) if hosted else {}
    words = {name: resolved(value, host) for name, value in sheet(dark).items()}
    tokens = {name: colour(words[name]) for name in words if name != "shadow"}
    low = [
        f"{name} on {ground}: {ratio:.2f}, not {least}"
        for name, ground, ratio, least in pairs(tokens)
        if ratio < least
    ]
    assert low == []


def test_the_formula_is_that_of_wcag() -> None:
    black, white = colour("#000"), colour("#fff")
    assert contrast(black, white) == contrast(white, black) == pytest.approx(21)
    # The lightest grey that passes on white, and the next one.
    assert contrast(colour("#767676"), white) == pytest.approx(4.54, abs=0.005)
    assert contrast(colour("#777777"), white) == pytest.approx(4.48, abs=0.005)
    assert contrast(colour("rgba(0, 0, 0, .5)"), white) == pytest.approx(3.98, abs=0.02)


def test_nothing_moves_for_those_who_ask_for_less_motion() -> None:
    sheet_ = style()
    moving = re.findall(r"(?:transition|animation)[\w-]*:", sheet_)
    allowed = "".join(
        re.findall(r"@media \(prefers-reduced-motion: no-preference\) \{(.*?\})\s*\}", sheet_, re.S)
    )
    assert moving and len(re.findall(r"(?:transition|animation)[\w-]*:", allowed)) == len(moving)
    assert "@keyframes" not in sheet_ and "scroll-behavior" not in sheet_
