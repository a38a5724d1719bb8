"""Methods of attribution by their names, and the rules that integrate along a path."""

from __future__ import annotations

import difflib

import numpy as np

from memviz.checks import quoted

INPUT_METHODS = {
    "integrated_gradients": "IntegratedGradients",
    "saliency": "Saliency",
    "input_x_gradient": "InputXGradient",
    "deep_lift": "DeepLift",
    "guided_backprop": "GuidedBackprop",
    "occlusion": "Occlusion",
    "feature_ablation": "FeatureAblation",
}
LAYER_METHODS = {
    "conductance": "LayerConductance",
    "gradient_x_activation": "LayerGradientXActivation",
    "integrated_gradients": "LayerIntegratedGradients",
    "internal_influence": "InternalInfluence",
    "deep_lift": "LayerDeepLift",
    "activation": "LayerActivation",
}
UNIT_METHODS = {
    "conductance": "NeuronConductance",
    "gradient": "NeuronGradient",
    "integrated_gradients": "NeuronIntegratedGradients",
    "guided_backprop": "NeuronGuidedBackprop",
    "deep_lift": "NeuronDeepLift",
    "feature_ablation": "NeuronFeatureAblation",
}
RULES = ("riemann_middle", "gausslegendre", "riemann_left", "riemann_right")
N_STEPS = 50


def captum_name(method: str, known: dict[str, str], of: str) -> str:
    """Captum's name of a method.

    Raises
    ------
    ValueError
        If the method is unknown; the message suggests a near one.

    Examples
    --------
    >>> captum_name("conductance", LAYER_METHODS, "a layer")
    'LayerConductance'
    """
    if method not in known:
        near = difflib.get_close_matches(method, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ValueError(
            f"{quoted(method)} is not an attribution of {of}; choose from {', '.join(known)}{hint}"
        )
    return known[method]


def check_rule(rule: str, n_steps: int) -> None:
    """Refuse an unknown rule, or fewer than two steps.

    Raises
    ------
    ValueError

    Examples
    --------
    >>> check_rule("riemann_middle", 50)
    """
    if rule == "riemann_trapezoid":
        raise ValueError(
            "Captum's riemann_trapezoid is not offered, since its weights add up to "
            f"1 - 1/n_steps, not 1; choose from {', '.join(RULES)}."
        )
    if rule not in RULES:
        raise ValueError(f"rule is {quoted(rule)}; choose from {', '.join(RULES)}.")
    if isinstance(n_steps, bool) or not isinstance(n_steps, int | np.integer) or n_steps < 2:
        raise ValueError(f"n_steps is {n_steps!r}; give a whole number of at least 2.")


def nodes(rule: str, n_steps: int) -> list[tuple[float, float]]:
    """Points of the path from 0 to 1, each with its weight; the weights add up to 1.

    Examples
    --------
    >>> nodes("riemann_middle", 2)
    [(0.25, 0.5), (0.75, 0.5)]
    >>> [round(weight, 3) for _, weight in nodes("gausslegendre", 3)]
    [0.278, 0.444, 0.278]
    """
    check_rule(rule, n_steps)
    if rule == "gausslegendre":
        points, weights = np.polynomial.legendre.leggauss(n_steps)
        points, weights = (points + 1) / 2, weights / 2
    else:
        offset = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}[rule]
        points = (np.arange(n_steps) + offset) / n_steps
        weights = np.full(n_steps, 1 / n_steps)
    return list(zip(points.tolist(), weights.tolist(), strict=True))
