"""Density: which examples a generative model remembers, by trainings with and without them.

After "On Memorization in Probabilistic Deep Generative Models" (van den Burg & Williams 2021). The
score of an example is ``M = log P(x | D) - log P(x | D without x)`` in nats, the density averaged
over trainings inside the logarithm; :func:`cross_fit` estimates it by trainings on folds, for a VAE
(:class:`memviz.training.density.VAERecipe`) and for anything with ``log_prob`` or scikit-learn's
``score_samples``, and :func:`leave_one_out` computes it by definition.

Departures from the released code, each of which changes figures: the images are binarized once,
not at every access; the importance samples of an example are the same in every training; the
nearest-neighbour distances are minima over all images, not of a row in 256; every M comes with the
null of in and out drawn at random, which is not 0, and can be had count-matched, where it is.

Of a VAE's units, those of the decoder change the density. Those of the encoder change the proposal
alone: log p(x) stays what it is, and its estimate falls where the encoder no longer finds x.

What a view of a :class:`DensityStudy` ``study`` needs, for a learning rate ``r`` of ``study.fits``,
an epoch ``e`` of ``study.fits[r].epochs`` and an example ``i``:

- M of all training examples, with its null: ``study.fits[r].memorization(e)``, a
  :class:`memviz.Scores` over ``study.fits[r].examples`` (``matched=True`` for equal counts);
- log p(x_i) by every training, with x_i and without it: ``study.fits[r].of_example(i, e)``; the
  logarithms of their mean densities: ``in_training(e)`` (of the training examples) and
  ``held_out(e)`` (of all);
- curves against epochs, with nulls: ``study.fits[r].quantiles()``, whose column ``held-out log p``
  is also ``held_out_log_p(e)``;
- nearest training images: ``neighbours(images[[i]], images[trained], skip=...)``, generated ones:
  ``neighbours(images[[i]], study.model.generate(count))``, and ``nearest_ratio``;
- the model at a rate and epoch: ``study.weights[r][e]``, where it was kept; the reconstruction,
  ``study.model.reconstruct(**study.batch(examples))``, also inside ``mv.ablate``;
- M of this one model, live, and what units do to it: the study's margin, in every readout, sweep
  and ranking.
"""

from ._cross_fit import Fit as Fit
from ._cross_fit import cross_fit as cross_fit
from ._fits import CrossFit as CrossFit
from ._leave_one_out import leave_one_out as leave_one_out
from ._likelihoods import log_likelihoods as log_likelihoods
from ._likelihoods import log_mean_exp as log_mean_exp
from ._nearest import nearest_ratio as nearest_ratio
from ._nearest import neighbours as neighbours
from ._study import DensityStudy as DensityStudy
from ._study import density_study as density_study
