"""Déjà vu while units are ablated: the two-model test, kept ready to run again at each click."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from memviz.data.caption_pairs import CaptionPairs
from memviz.engine.record import Intervention, Zero, fingerprint, intervention
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
from .._utility import precision_of_first
from ._input import check_models, check_sets, warn_of_shared
from ._tower import Tower

UTILITY_FIRST = 20  # nearest images of a one-object caption that count


@dataclass(frozen=True, eq=False)
class Retrieved:
    """The two-model test with units of the target ablated, and the model's remaining utility.

    Attributes
    ----------
    units : UnitSet
    how : str
    found : DejaVu
        The test of all training pairs, with the held-out pairs as its null.
    utility : float
        Share of the 20 held-out images nearest to a caption of one object that show that object,
        averaged over the kinds of object; images that tie for the last places share them.
    """

    units: UnitSet
    how: str
    found: DejaVu
    utility: float

    def __repr__(self) -> str:
        off = f"{len(self.units)} units ablated ({self.how})" if self.units else "nothing ablated"
        return f"{off}; utility {self.utility:.3f}\n{self.found!r}"


class Retrieval:
    """A CLIP model, a reference and three sets of pairs: the two-model test under ablation.

    Parameters
    ----------
    target : Clip
        Trained on ``training``.
    reference : Clip or Embedded
        Of the same recipe, trained without them; or, for the one-model test, a text encoder's
        embeddings of the captions (with ``held_out``).
    training, public, held_out : CaptionPairs
        Disjoint, with the same object classes. The images of ``public`` are searched; the pairs of
        ``held_out``, unknown to both models, are the null and measure the utility.
    query : callable
        Maps a class name to a caption that names it alone.
    k, top : int
        Neighbours per caption, and objects to keep; ``top=None`` keeps all.
    name, summary, origin : str
        As in :class:`~memviz.study.Study`.

    Attributes
    ----------
    study : Study
        Training pairs, then held-out pairs, with the cosine of caption and image as margin; sweeps
        and estimates run on it.
    clean : Retrieved
        With nothing ablated.
    effects : Scores or None
        :func:`unit_effects` of zero ablation, if already known.

    Raises
    ------
    ValueError
        If an argument has the wrong type, both models have equal weights, the sets differ in their
        classes, or the two-model test refuses its input.

    Warns
    -----
    UserWarning
        If two of the sets share images, as the target sees them.

    Examples
    --------
    >>> from memviz.demos import scenes
    >>> retrieval = scenes.retrieval(seed=0)
    >>> print(f"{retrieval.clean.found.prg:.2f} of {len(retrieval.training):,} pairs")
    0.62 of 1,000 pairs
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
        images = [pairs.inputs(target.preprocess) for pairs in (public, held_out, training)]
        shown = {"training": images[2], "held-out": images[1], "public": images[0]}
        warn_of_shared(shown)
        captions = [pairs.captions for pairs in (training, held_out)]
        queries = [query(class_name) for class_name in training.class_names]
        tokens = [target.tokenizer(list(texts)) for texts in (*captions, queries)]
        self.text = Tower(target.model, "text", torch.cat(tokens))
        self.image = Tower(target.model, "image", torch.cat(images[:2]))
        pairs = {"image": torch.cat([images[2], images[1]]), "text": torch.cat(tokens[:2])}
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
        self._weights: tuple[int, ...] = ()  # of the target, when it was first asked
        self._reference = reference if isinstance(reference, Clip) else None
        self.reference = (
            self._embedded_by(reference, images[0]) if isinstance(reference, Clip) else reference
        )

    def __repr__(self) -> str:
        return (
            f"Retrieval({self.study.name!r}: {len(self.training):,} training pairs, "
            f"{len(self.public):,} public images, {len(self.held_out):,} held-out pairs)"
        )

    @cached_property
    def clean(self) -> Retrieved:
        """The test and the utility with nothing ablated."""
        embedded = self.embedded(UnitSet(), Zero())
        result = two_model_test(
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
            UnitSet(), "zero", result, self._utility(*self._features(UnitSet(), Zero()))
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

        With ``keep`` the pass is kept, so that the next one can continue from it; turn it off for
        units that are ablated only once.

        Raises
        ------
        CancelledError
            If ``stop()`` returns True.
        ValueError
            If the target's weights have changed since the retrieval was first asked.

        Examples
        --------
        >>> from memviz.demos import scenes
        >>> retrieval = scenes.retrieval(seed=0)
        >>> ablated = retrieval.retrieve("transformer.resblocks.1.mlp.c_fc:0-99")
        >>> ablated.found.prg < retrieval.clean.found.prg
        True
        """
        chosen, how = self.check(units), intervention(how)
        if not chosen:
            return self.clean
        features = self._features(chosen, how, stop, keep)
        result = retest(self.clean.found, self._embedded(*features), progress=False)
        return Retrieved(chosen, str(how), result, self._utility(*features))

    def tested(
        self,
        units: UnitSet,
        how: Intervention,
        *,
        stop: Callable[[], bool] | None = None,
        keep: bool = True,
    ) -> DejaVu:
        """The two-model test alone, on training and held-out pairs, as in :meth:`retrieve`."""
        if not units:
            return self.clean.found
        embedded = self._embedded(*self._features(units, how, stop, keep))
        return retest(self.clean.found, embedded, progress=False)

    def embedded(
        self, units: UnitSet, how: Intervention, *, stop: Callable[[], bool] | None = None
    ) -> Embedded:
        """Embeddings of captions and public images by the target with these units ablated."""
        return self._embedded(*self._features(units, how, stop))

    def _features(
        self,
        units: UnitSet,
        how: Intervention,
        stop: Callable[[], bool] | None = None,
        keep: bool = True,
    ) -> tuple[Tensor, Tensor]:
        self._check_weights()
        ablation = (units, how, stop)
        return self.text.features(*ablation, keep=keep), self.image.features(*ablation, keep=keep)

    def _check_weights(self) -> None:
        # What is kept (embeddings, the clean test, effects) is of the weights it was computed with.
        weights = tuple(checksum for _, checksum in fingerprint(self.target.model)[:-1])
        if self._weights and weights != self._weights:
            raise ValueError(
                "the target's weights have changed since this retrieval was first asked; build it "
                "again: Retrieval(target, reference, training, public, held_out)."
            )
        self._weights = weights

    def _embedded(self, captions: Tensor, images: Tensor) -> Embedded:
        n, public = len(self.training), images[: len(self.public)]
        return Embedded(captions[:n], public, captions[n : self.study_rows], "target")

    def _utility(self, captions: Tensor, images: Tensor) -> float:
        queries, images = captions[self.study_rows :], images[len(self.public) :]
        count = min(UTILITY_FIRST, len(images))
        return precision_of_first(queries, images, self.held_out.objects, count)

    @property
    def study_rows(self) -> int:
        """Number of training and held-out pairs."""
        return len(self.training) + len(self.held_out)

    def ask(
        self, caption: str, objects: Tensor, units: UnitsLike = "", how: str | Intervention = "zero"
    ) -> list[Predictions]:
        """What any caption, an edited one for example, finds in target, ablated target, reference.

        Parameters
        ----------
        caption : str
        objects : bool ``[kinds]``
            What counts as right: the objects of the caption's image.

        Returns
        -------
        list of Predictions
            Each of this caption alone. The reference is missing if it was given as embeddings,
            which hold no new caption.
        """
        chosen, how = self.check(units), intervention(how)
        n, sides = len(self.public), []
        for ablated in (UnitSet(), chosen):
            features = self.text.ask(self.target, caption, self.text.own(ablated), how)
            sides.append((features, self.image.features(ablated, how)[:n]))
        if self._reference is not None:
            features = self.text.ask(self._reference, caption, UnitSet(), how)
            sides.append((features, self.reference.public))
        settings = (objects[None], self.public.objects, self.top)
        return [
            predict(nearest(features, public, self.k, ties=True, progress=False), *settings)
            for features, public in sides
        ]

    def check(self, units: UnitsLike) -> UnitSet:
        """The units as a set, all of which one of the towers has.

        Raises
        ------
        ValueError
            If neither tower has a layer of that name with units.
        """
        chosen = UnitSet.of(units)
        known = len(self.text.own(chosen)) + len(self.image.own(chosen))
        if known != len(chosen):
            names = [layer.name for layer in (*self.text.layers, *self.image.layers)]
            unknown = next(name for name in chosen.layers if name not in names)
            raise ValueError(
                f"neither tower has a layer {unknown!r} with units; choose from {', '.join(names)}."
            )
        return chosen

    def _embedded_by(self, reference: Clip, public: Tensor) -> Embedded:
        texts = reference.tokenizer([*self.training.captions, *self.held_out.captions])
        # The repr of a preprocessing holds its sizes and means; a model's config may not.
        if repr(reference.preprocess) != repr(self.target.preprocess):
            public = self.public.inputs(reference.preprocess)
        model: Any = reference.model
        n = len(self.training)
        inputs = (texts[:n], model.encode_image, public, texts[n:])
        return embedded_by(model.encode_text, *inputs, name="reference")
