"""Lines of Python that give the figures of the explorer without it."""

from __future__ import annotations

from memviz.session import Session

from ._opened import Asked


def code(session: Session, asked: Asked | None) -> str:
    """Compute what is shown with the plain functions, and open the view in the same state."""
    units, how = str(session.units), session.how
    study = session.study
    lines = ["import memviz as mv", "from memviz.probes.extraction import recite", ""]
    lines += [f"study = {study.origin or '...  # your Study'}", "session = mv.Session(study)"]
    if session.variant:
        lines.append(f"session.look_at({session.variant!r})")
    shown = "session.replay.study" if session.variant else "study"
    lines.append(f"print(mv.readout({shown}, {units!r}, {how!r}))")
    if asked is not None:
        sampling = ""
        if asked.sample is not None:
            seed = asked.sample * len(study) + asked.row
            sampling = f", temperature={asked.temperature!r}, top_k={asked.top_k!r}, seed={seed}"
        lines += ["", f"row, prompt = {asked.row}, {list(asked.prompt)!r}"]
        lines += [f"true = {shown}.labels[row]", f"with mv.ablate({shown}, {units!r}, {how!r}):"]
        lines += [f"    print(recite({shown}.model, prompt, true{sampling}))"]
    lines += ["", "view = mv.extraction(session)"]
    if session.opened is not None:
        lines.append(f"session.open({session.opened})")
    if session.units or how != "zero":
        lines.append(f"session.ablate({units!r}, how={how!r})")
    return "\n".join([*lines, "view", ""])
