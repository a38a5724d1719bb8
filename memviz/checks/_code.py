"""The code at the end of a message, which leads to its heading in the error page."""


def coded(code: str, sentence: str) -> str:
    """The sentence, at its end the code of its heading in ``docs/errors.md``.

    A code keeps its meaning: one that is not raised any more is not given to another message.

    Examples
    --------
    >>> coded("E24", "there is no group 'noisy'; this study has memorized, clean.")
    "there is no group 'noisy'; this study has memorized, clean (memviz E24)."
    """
    return f"{sentence.removesuffix('.')} (memviz {code})."
