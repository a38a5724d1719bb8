"""Training of variational autoencoders, and the recipe with which they are trained many times."""

from ._recipe import VAERecipe as VAERecipe
from ._train import log_likelihoods as log_likelihoods
from ._train import train_vae as train_vae
