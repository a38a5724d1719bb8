"""Déjà vu in self-supervised models (Meehan et al. 2023): a background crop finds its foreground.

The part of a training image outside its object is embedded; its nearest public images vote for a
label. A model that never saw the image finds the label only if background and object go together in
the world; the gap between the two is the DV score. Embed with the projector: memorization is weaker
at the backbone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from memviz.checks import checked, described
from memviz.engine.search import embed
from memviz.scores import Null, Scores
from memviz.statistics import evenly, first_of, resampled, share_of_first, sign_test

from ._labels import Labels, integers, labels_among, labels_of_public, tensor_of
from ._votes import Votes, vote

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SOURCE = "Meehan et al. 2023 (arXiv:2304.13850)"
QUADRANTS = ("memorized", "correlated", "misrepresented", "unassociated")
_NULL_IMAGES = 200


@checked
def ssl_test(
    target: Callable[[Any], Tensor],
    reference: Callable[[Any], Tensor],
    crops: Any,
    labels: Labels,
    public: Any,
    public_labels: Labels,
    *,
    held_out: tuple[Any, Labels] | None = None,
    k: int = 100,
    batch: int = 256,
    progress: bool = True,
) -> SSLDejaVu:
    """Test whether an encoder finds the label of its training images in their background.

    Make the crops with :func:`background_crop` or :func:`corner_crop`, and :func:`crops`. Each
    encoder must be in eval mode; it searches public images that it embedded itself.

    Parameters
    ----------
    target, reference : callable
        Map a batch of images to float ``[batch, features]``: an encoder trained on the images, and
        one that never saw them. Use the projector's output.
    crops : Tensor or array ``[n, ...]``, or sequence
        Background crops of the target's training images, preprocessed for the encoders; float64
        arrays become tensors of torch's default dtype.
    labels : integers ``[n]``
        Classes of the images' objects, each among ``public_labels``.
    public : Tensor or array ``[m, ...]``, or sequence
        Whole images that neither encoder was trained on.
    public_labels : integers ``[m]``
    held_out : (crops, labels), optional
        Of images that are not public and that neither encoder was trained on: the null.
    k, batch, progress
        As in :func:`vote` and :func:`memviz.engine.search.embed`.

    Raises
    ------
    ValueError
        As for :func:`vote`; also if the numbers of labels and images differ, no public image has a
        label, or ``held_out`` is not a pair.

    Examples
    --------
    >>> import torch
    >>> eye, none, labels = torch.eye(3), torch.zeros(3, 3), torch.arange(3)
    >>> crops, public = torch.cat([eye, none], 1), torch.cat([none, eye], 1)
    >>> def remembers(rows):  # the object that a background belongs to
    ...     return rows[:, :3] + rows[:, 3:]
    >>> result = ssl_test(remembers, lambda rows: rows, crops, labels, public, labels, k=1)
    >>> round(result.dv, 3)
    0.667
    """
    known = labels_of_public(public_labels, _length("public", public), k)
    checked = labels_among(known, labels, "labels", _length("crops", crops))
    queries = [(tensor_of(crops), checked)]
    if held_out is not None:
        if not isinstance(held_out, tuple | list) or len(held_out) != 2:
            raise ValueError(
                f"held_out is {type(held_out).__name__}; give the pair (crops, labels), with one "
                "integer label per crop."
            )
        held_out_crops, held_out_labels = held_out
        count = _length("held_out[0]", held_out_crops)
        checked = labels_among(known, held_out_labels, "held_out[1]", count)
        queries.append((tensor_of(held_out_crops), checked))

    def votes(encode: Callable[[Any], Tensor]) -> list[Votes]:
        sets = [tensor_of(public), *(images for images, _ in queries)]
        whole, *parts = [embed(encode, images, batch=batch, progress=progress) for images in sets]
        return [vote(part, whole, known, k, progress=progress) for part in parts]

    labels_of = [checked for _, checked in queries]
    result, *null = map(SSLDejaVu, votes(target), votes(reference), labels_of)
    return replace(result, null=null[0] if null else None)


def _length(what: str, images: Any) -> int:
    has_slices = hasattr(images, "__len__") and hasattr(images, "__getitem__")
    if not has_slices or isinstance(images, Mapping) or getattr(images, "ndim", 1) == 0:
        raise ValueError(f"{what} is {described(images)}; give a tensor or a list of images.")
    return len(images)


@dataclass(frozen=True, eq=False)
class SSLDejaVu:
    """Result of the déjà vu test of a self-supervised model on a set of images.

    Attributes
    ----------
    target, reference : Votes
        By the model that was trained on the images, and by one that was not.
    labels : int64 ``[n]``
    null : SSLDejaVu or None
        The same of held-out images, which neither model was trained on.
    """

    target: Votes
    reference: Votes
    labels: Tensor
    null: SSLDejaVu | None = None

    def __post_init__(self) -> None:
        for name, side in (("target", self.target), ("reference", self.reference)):
            if len(side.shares) != len(self.labels) or not len(self.labels):
                raise ValueError(
                    f"the {name} has votes on {len(side.shares)} crops, and there are "
                    f"{len(self.labels)} labels; give one of each per image."
                )
        labels = integers(self.labels, "labels", len(self.target.shares), "crops")
        object.__setattr__(self, "labels", labels)  # lists and arrays are accepted too

    def accuracies(self, top: int = 1, most_confident: float = 1.0) -> tuple[float, float]:
        """Accuracy of target and reference, each on the images it is most confident about.

        The share is rounded down to at least one image. Images that are equally confident share
        the last places, so that their order does not matter.
        """
        if not 0 < most_confident <= 1:
            raise ValueError(
                f"most_confident is {most_confident}; give a share above 0 and at most 1."
            )
        count = first_of(most_confident, len(self.labels))
        accuracies = []
        for side in (self.target, self.reference):
            weights = share_of_first(side.confidence, count)
            right = side.chance(self.labels, top)
            accuracies.append(float((weights * right).sum() / count))
        return accuracies[0], accuracies[1]

    @property
    def dv(self) -> float:
        """DV score: accuracy of the target minus that of the reference."""
        target, reference = self.accuracies()
        return target - reference

    @cached_property
    def quadrants(self) -> np.ndarray:
        """Who is surely right on each image, as text ``[n]``.

        Memorized: only the target; correlated: both; misrepresented: only the reference;
        unassociated: neither.
        """
        target, reference = self.target.right(self.labels), self.reference.right(self.labels)
        cases = [target & ~reference, target & reference, ~target & reference]
        return np.select([case.numpy() for case in cases], QUADRANTS[:3], QUADRANTS[3])

    def shares(self) -> dict[str, float]:
        """Share of the images in each quadrant, by the chance of either model to be right."""
        target, reference = self.target.chance(self.labels), self.reference.chance(self.labels)
        cases = (
            target * (1 - reference),
            target * reference,
            (1 - target) * reference,
            (1 - target) * (1 - reference),
        )
        return dict(zip(QUADRANTS, (float(case.mean()) for case in cases), strict=True))

    def summary(self, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
        """DV score on all and on the most confident images, with the null.

        Only the score on all images has a resampled interval and a sign test.
        """
        import pandas as pd

        gap = self.target.chance(self.labels) - self.reference.chance(self.labels)
        low, high = np.percentile(resampled(gap[None], draws, seed), [2.5, 97.5])
        rows = []
        for share in (1.0, 0.2, 0.05):
            target, reference = self.accuracies(most_confident=share)
            row = {"most confident": share, "target": target, "reference": reference}
            row["dv"] = target - reference
            if share == 1:
                row |= {"low": low, "high": high, "z": sign_test(gap.round(decimals=9).sign())}
            if self.null is not None:
                null_accuracies = self.null.accuracies(most_confident=share)
                row["null"] = null_accuracies[0] - null_accuracies[1]
            rows.append(row)
        return pd.DataFrame(rows)

    def figures(self, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
        """The former name of :meth:`summary`."""
        warnings.warn(
            "result.figures() is now result.summary(); a figure is a plot.",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.summary(draws, seed)

    def scores(self) -> Scores:
        """Entropy of the reference's votes minus the target's; the null is of held-out images."""
        null, values = None, self._confidence_gap()
        if self.null is not None:
            held_out = np.sort(self.null._confidence_gap())
            drawn = held_out[evenly(len(held_out), _NULL_IMAGES)]
            words = f"the same of {len(drawn)} held-out images"
            words += ", evenly over their order" if len(drawn) < len(held_out) else ""
            null = Null(words, np.broadcast_to(drawn[:, None], (len(drawn), len(values))))
        rows = np.arange(len(values))
        source = f"{SOURCE}; Kokhlikyan et al. (arXiv:2504.05651)"
        return Scores("confidence gap", "nats", values, examples=rows, source=source, null=null)

    def _confidence_gap(self) -> np.ndarray:
        return np.asarray((self.target.confidence - self.reference.confidence).numpy())

    def plot(self) -> Figure:
        """Share of the images in each quadrant, the null's beside."""
        from .figures import quadrants

        return quadrants([self])

    def __repr__(self) -> str:
        target, reference = self.accuracies()
        shares = {name: f"{name} {share:.3f}" for name, share in self.shares().items()}
        null = "none given; without them the memorized share says nothing"
        if self.null is not None:
            shares["memorized"] += f" (null {self.null.shares()['memorized']:.3f})"
            null = f"DV {self.null.dv:+.3f}"
        return (
            f"déjà vu of {len(self.labels):,} images: DV {self.dv:+.3f} (target {target:.3f}, "
            f"reference {reference:.3f})\n  {', '.join(shares.values())}\n"
            f"null, held-out images: {null}\nsource: {SOURCE}"
        )


@checked
def symmetrised(one: SSLDejaVu, other: SSLDejaVu) -> float:
    """Mean DV score of both directions, each model being the target on its own training images.

    ``½[acc(A on A) + acc(B on B)] - ½[acc(A on B) + acc(B on A)]``.
    """
    return (one.dv + other.dv) / 2
