"""Déjà vu while units are ablated: the two-model test kept ready for one click after another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from memviz.data.caption_pairs import CaptionPairs
from memviz.engine.record import Intervention, Zero, intervention
from memviz.engine.search import nearest
from memviz.models.clip import Clip
from memviz.scores import Scores
from memviz.study import Study
from memviz.tasks.image_text import ImageText
from memviz.units import UnitSet, UnitsLike

from .._embedded import Embedded, embedded_by
from .._objects import Predictions, predict
from .._table import DejaVu
from .._two_model import retest, two_model_test
from ._input import check_models, check_sets, warn_of_shared
from ._tower import Tower

UTILITY_FIRST = 20  # pictures that a one-object caption finds


@dataclass(frozen=True, eq=False)
class Retrieved:
    """The two-model test with units of the target ablated, and what the model is still good for.

    Attributes
    ----------
    units : UnitSet
    how : str
    found : DejaVu
        Of all training pairs; its null is of the held-out pairs.
    utility : float
        Mean over kinds of object: of the first 20 held-out pictures that a caption naming only
        the object finds, the share that shows it.
    """

    units: UnitSet
    how: str
    found: DejaVu
    utility: float

    def __repr__(self) -> str:
        off = f"{len(self.units)} units ablated ({self.how})" if self.units else "nothing ablated"
        return f"{off}; utility {self.utility:.3f}\n{self.found!r}"


class Retrieval:
    """A CLIP model with a reference and three sets of pairs: what its captions find.

    Parameters
    ----------
    target : Clip
        Trained on ``training``.
    reference : Clip or Embedded
        Of the same recipe, trained without them; or, for the one-model test, what a text encoder
        makes of the captions (with ``held_out``).
    training, public, held_out : CaptionPairs
        Disjoint, with one list of object classes. ``public`` pictures are searched; ``held_out``
        pairs, unknown to both models, are the null and measure the utility.
    query : callable
        A class name to the caption that asks for it alone.
    k, top : int
        Neighbours of a caption, and objects kept of theirs; None keeps all objects.
    name, summary, origin : str
        As of a :class:`~memviz.study.Study`.

    Attributes
    ----------
    study : Study
        Training pairs, then held-out pairs, judged by the cosine of caption and picture: what
        sweeps and estimates run on.
    clean : Retrieved
        With nothing ablated.
    effects : Scores or None
        Of ``deja_vu_units.unit_effects`` by zero, where they are known already.

    Raises
    ------
    ValueError
        If a model or a set is of another kind, both models are one, the sets have other classes, or
        the two-model test refuses its input.

    Warns
    -----
    UserWarning
        Of pictures that stand in two of the sets, equal as the target sees them.

    Examples
    --------
    >>> from memviz.demos import scenes
    >>> found = scenes.retrieval(seed=0)
    >>> print(f"{found.clean.found.prg:.2f} of {len(found.training):,} pairs")
    0.60 of 1,000 pairs
    """

    def __init__(
        self,
        target: Clip,
        reference: Clip | Embedded,
        training: CaptionPairs,
        public: CaptionPairs,
        held_out: CaptionPairs,
        *,
        query: Callable[[str], str] = "a photo of a {}".format,
        k: int = 10,
        top: int | None = 5,
        name: str = "déjà vu",
        summary: str = "",
        origin: str = "",
    ) -> None:
        check_models(target, reference)
        check_sets({"training": training, "public": public, "held_out": held_out}, query)
        self.target, self.training, self.public, self.held_out = target, training, public, held_out
        self.k, self.top = k, top
        self.effects: Scores | None = None
        pictures = [pairs.inputs(target.preprocess) for pairs in (public, held_out, training)]
        shown = {"training": pictures[2], "held-out": pictures[1], "public": pictures[0]}
        warn_of_shared(shown)
        captions = [pairs.captions for pairs in (training, held_out)]
        queries = [query(class_name) for class_name in training.class_names]
        tokens = [target.tokenizer(list(texts)) for texts in (*captions, queries)]
        self.text = Tower(target.model, "text", torch.cat(tokens))
        self.image = Tower(target.model, "image", torch.cat(pictures[:2]))
        pairs = {"image": torch.cat([pictures[2], pictures[1]]), "text": torch.cat(tokens[:2])}
        n, total = len(training), len(training) + len(held_out)
        self.study = Study(
            target.model,
            pairs,
            torch.ones(total),
            {"training": torch.arange(n), "held-out": torch.arange(n, total)},
            class_names=["apart", "together"],
            name=name,
            summary=summary,
            task=ImageText(),
            origin=origin and f"{origin}.study",
        )
        self.origin = origin
        self._reference = reference if isinstance(reference, Clip) else None
        self.reference = (
            self._embedded_by(reference, pictures[0]) if isinstance(reference, Clip) else reference
        )

    def __repr__(self) -> str:
        return (
            f"Retrieval({self.study.name!r}: {len(self.training):,} training pairs, "
            f"{len(self.public):,} public pictures, {len(self.held_out):,} held-out pairs)"
        )

    @cached_property
    def clean(self) -> Retrieved:
        """With nothing ablated."""
        embedded = self.embedded(UnitSet(), Zero())
        found = two_model_test(
            embedded,
            self.reference,
            self.training.objects,
            self.public.objects,
            held_out_objects=self.held_out.objects,
            k=self.k,
            top=self.top,
            ids=[self.training.id(row) for row in range(len(self.training))],
            progress=False,
        )
        return Retrieved(
            UnitSet(), "zero", found, self._utility(*self._features(UnitSet(), Zero()))
        )

    def retrieve(
        self,
        units: UnitsLike = "",
        how: str | Intervention = "zero",
        *,
        stop: Callable[[], bool] | None = None,
        keep: bool = True,
    ) -> Retrieved:
        """The whole test and the utility with units ablated, exactly.

        With ``keep`` the pass is kept, and the next one goes on from it: not for units that are
        drawn once.

        Raises
        ------
        CancelledError
            If ``stop()`` says so in between.

        Examples
        --------
        >>> from memviz.demos import scenes
        >>> found = scenes.retrieval(seed=0)
        >>> some = found.retrieve("transformer.resblocks.1.mlp.c_fc:0-99")
        >>> some.found.prg < found.clean.found.prg
        True
        """
        chosen, kind = self.check(units), intervention(how)
        if not chosen:
            return self.clean
        features = self._features(chosen, kind, stop, keep)
        found = retest(self.clean.found, self._embedded(*features), progress=False)
        return Retrieved(chosen, str(kind), found, self._utility(*features))

    def tested(
        self,
        units: UnitSet,
        kind: Intervention,
        *,
        stop: Callable[[], bool] | None = None,
        keep: bool = True,
    ) -> DejaVu:
        """The two-model test alone, of training and held-out pairs; as :meth:`retrieve`."""
        if not units:
            return self.clean.found
        embedded = self._embedded(*self._features(units, kind, stop, keep))
        return retest(self.clean.found, embedded, progress=False)

    def embedded(
        self, units: UnitSet, kind: Intervention, *, stop: Callable[[], bool] | None = None
    ) -> Embedded:
        """What the target with these units ablated makes of captions and public pictures."""
        return self._embedded(*self._features(units, kind, stop))

    def _features(
        self,
        units: UnitSet,
        kind: Intervention,
        stop: Callable[[], bool] | None = None,
        keep: bool = True,
    ) -> tuple[Tensor, Tensor]:
        asked = (units, kind, stop)
        return self.text.features(*asked, keep=keep), self.image.features(*asked, keep=keep)

    def _embedded(self, captions: Tensor, pictures: Tensor) -> Embedded:
        n, public = len(self.training), pictures[: len(self.public)]
        return Embedded(captions[:n], public, captions[n : self.study_rows], "target")

    def _utility(self, captions: Tensor, pictures: Tensor) -> float:
        shown = self.held_out.objects
        asked = shown.any(0)
        queries, pictures = captions[self.study_rows :][asked], pictures[len(self.public) :]
        few = min(UTILITY_FIRST, len(pictures))
        ids = nearest(queries, pictures, few, progress=False).ids
        return float(shown.T[asked].gather(1, ids).double().mean())

    @property
    def study_rows(self) -> int:
        """Training and held-out pairs."""
        return len(self.training) + len(self.held_out)

    def ask(
        self, caption: str, objects: Tensor, units: UnitsLike = "", how: str | Intervention = "zero"
    ) -> list[Predictions]:
        """What any caption finds, for example an edited one: target, ablated target, reference.

        Parameters
        ----------
        caption : str
        objects : bool ``[kinds]``
            What counts as right: the objects of the caption's picture.

        Returns
        -------
        list of Predictions, of one caption each
            Without the reference where it was given as embeddings: they know no new caption.
        """
        chosen, kind = self.check(units), intervention(how)
        n, found = len(self.public), []
        for now in (UnitSet(), chosen):
            features = self.text.ask(self.target, caption, self.text.own(now), kind)
            found.append((features, self.image.features(now, kind)[:n]))
        if self._reference is not None:
            features = self.text.ask(self._reference, caption, UnitSet(), kind)
            found.append((features, self.reference.public))
        asked = (objects[None], self.public.objects, self.top)
        return [
            predict(nearest(features, public, self.k, progress=False), *asked)
            for features, public in found
        ]

    def check(self, units: UnitsLike) -> UnitSet:
        """The units as a set that the model has, else one clear sentence."""
        chosen = UnitSet.of(units)
        mine = len(self.text.own(chosen)) + len(self.image.own(chosen))
        if mine != len(chosen):
            names = [layer.name for layer in (*self.text.layers, *self.image.layers)]
            unknown = next(name for name in chosen.layers if name not in names)
            raise ValueError(
                f"no layer {unknown!r} with units is in either tower; there are {', '.join(names)}."
            )
        return chosen

    def _embedded_by(self, reference: Clip, public: Tensor) -> Embedded:
        texts = reference.tokenizer([*self.training.captions, *self.held_out.captions])
        # Sizes and means stand in the words of a preprocessing; not always in a model's config.
        if repr(reference.preprocess) != repr(self.target.preprocess):
            public = self.public.inputs(reference.preprocess)
        model: Any = reference.model
        n = len(self.training)
        asked = (texts[:n], model.encode_image, public, texts[n:])
        return embedded_by(model.encode_text, *asked, name="reference")
