"""The density explorer as Python objects: what it tells, in which words, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import memviz as mv
from memviz.widgets.density import DensityExplorer, density
from memviz.widgets.workbench import Controller
from tests.support.density import PlantedTable, density_study
from tests.support.widgets import EVIL, Ear, ask, decoded, flat_study, listening

UNITS = "decoder.fc1:0-5"


@pytest.fixture(scope="module")
def study() -> mv.Study:
    return density_study()


def begun(study: mv.Study, table: Any = None, **options: Any) -> tuple[Controller, Ear]:
    controller, ear = listening(study, DensityExplorer, **options)
    controller.part(DensityExplorer).begin(table or PlantedTable())
    controller.worker.run_until_idle()
    return controller, ear


# What it shows -----------------------------------------------------------------------------------


def test_every_learning_rate_and_epoch_is_told_once(study: mv.Study) -> None:
    table = PlantedTable()
    _, ear = begun(study, table)
    told = [(m["rate"], m["epoch"]) for m in ear.of("density_values")]
    assert told[0] == (1, 2) and sorted(told) == [(i, j) for i in range(2) for j in range(3)]
    assert len(table.seen) == 6  # and none is computed twice
    for rate, epoch in told:
        arrays = decoded(ear.last("density_values", rate=rate, epoch=epoch))
        found = table.estimate(table.rates[rate], table.epochs[epoch])
        assert arrays["m"] == pytest.approx(found.memorization, abs=1e-4)
        assert arrays["m"] == pytest.approx(arrays["inside"] - arrays["outside"], abs=1e-4)
    (shared,) = ear.of("density")
    curve = [point["q95"] for point in shared["curves"][1]]
    assert curve == sorted(curve) and curve[-1] > shared["curves"][0][-1]["q95"]
    assert shared["held_out"] == ["test"] and shared["of_model"] == [1e-3, 60]


def test_the_most_memorized_image_is_opened_with_all_its_trainings(study: mv.Study) -> None:
    table = PlantedTable()
    controller, ear = begun(study, table)
    values = table.estimate(1e-3, 60).memorization
    assert controller.session.opened == int(values.argmax()) < 6
    image = ear.last("density_image")
    arrays, index = decoded(image), image.content["index"]
    assert arrays["log_p"].shape == arrays["side"].shape == (2, 3, 20)
    for i, j, found in ((0, 0, table.estimate(1e-4, 20)), (1, 2, table.estimate(1e-3, 60))):
        assert arrays["log_p"][i, j] == pytest.approx(found.log_p[:, index], abs=1e-4)
        assert (arrays["side"][i, j] == found.is_in[:, index]).all()


def test_another_image_has_its_own_neighbours(study: mv.Study) -> None:
    controller, ear = begun(study)
    ask(controller, ear, "open", example=7)
    near = ear.last("density_nearest", index=7)
    assert near.content["trained"] == [8, 9, 10, 11]
    assert decoded(near)["generated"].shape == (4, 8, 8, 1)
    ear.forget()
    ask(controller, ear, "open", example=45)  # held out: nothing to leave out
    assert ear.of("density_image")[-1]["covered"] is False
    assert ear.of("density_nearest")[-1]["index"] == 45
    assert controller.part(DensityExplorer).sentence == "Image 45 was in no training."


def test_an_opened_image_is_kept(study: mv.Study) -> None:
    session = mv.Session(study)
    session.open(9)
    with density(session, PlantedTable()) as view:
        assert session.opened == 9
        assert "Image 9 after 60 epochs: M 1.5 nats, null 0.0 to 0.0." in repr(view)


def test_the_ratio_is_told_of_all_images(study: mv.Study) -> None:
    table = PlantedTable()
    _, ear = begun(study, table)
    told = ear.last("density_ratios")
    assert decoded(told)["ratio"] == pytest.approx(table.nearest_ratio, abs=1e-6)
    assert told.content["quartiles"] == np.percentile(table.nearest_ratio, [25, 75]).tolist()


def test_a_table_without_neighbours_tells_none(study: mv.Study) -> None:
    table = PlantedTable()
    table.nearest_ratio = None
    _, ear = begun(study, table)
    assert ear.of("density_nearest") == ear.of("density_ratios") == ear.of("error") == []


# Units off ---------------------------------------------------------------------------------------


def test_figures_are_those_of_the_plain_readout(study: mv.Study) -> None:
    controller, ear = begun(study)
    ask(controller, ear, "set", units=UNITS)
    figures = ear.of("density_figures")[-1]
    plain = mv.readout(study, UNITS, random_draws=20)
    rows = {row["name"]: row for row in figures["rows"]}
    assert {name: row["measure"] for name, row in rows.items()} == {
        **{"planted": "M", "clean": "M"},
        "test": "log p",
    }
    for name in ("planted", "clean"):
        group = plain.groups[name]
        assert rows[name]["before"] == pytest.approx(group.before.margin, abs=1e-4)
        assert rows[name]["after"] == pytest.approx(group.after.margin, abs=1e-4)
        assert rows[name]["low"] == pytest.approx(group.after.margin_low, abs=1e-4)
        draws = plain.random[name][:, 1]
        assert rows[name]["random"][0] == pytest.approx(draws.mean(), abs=1e-4)
        assert rows[name]["random"][1] == pytest.approx(np.percentile(draws, 2.5), abs=1e-4)
    # Held-out images have log p itself, in and out of the ablation.
    test = study.group("test")
    inputs = {key: value[test] for key, value in study.inputs.items()}
    with torch.no_grad(), mv.ablate(study, UNITS) as model:
        log_p = model(**inputs)
    assert rows["test"]["after"] == pytest.approx(float(log_p.mean()), abs=1e-4)
    half = 1.96 * float(log_p.std()) / len(test) ** 0.5
    assert rows["test"]["high"] - rows["test"]["after"] == pytest.approx(half, rel=1e-3)
    assert figures["units"] == 6 and figures["draws"] == 20


def test_the_reconstruction_is_that_of_the_ablated_model(study: mv.Study) -> None:
    controller, ear = begun(study)
    ask(controller, ear, "open", example=3)
    assert "after" not in decoded(ear.last("density_reconstruction"))
    ask(controller, ear, "set", units=UNITS)
    told = ear.last("density_reconstruction")
    one = {key: value[3:4] for key, value in study.inputs.items()}
    image = one["images"]
    with torch.no_grad():
        before = study.model.reconstruct(**one)
        with mv.ablate(study, UNITS) as model:
            after = model.reconstruct(**one)
    for name, made in (("before", before), ("after", after)):
        error = float((made.double() - image).square().sum())
        assert told.content["errors"][name] == pytest.approx(error, rel=1e-4)
    assert told.content["draws"] == 5 and told.content["errors"]["random"] > 0
    assert decoded(told)["after"].shape == (8, 8, 1)
    grey = np.rint(after[0, 0].numpy() * 255)[..., None]
    assert np.abs(decoded(told)["after"] - grey).max() <= 1
    ask(controller, ear, "undo")
    assert ear.of("density_reconstruction")[-1]["units"] == 0
    assert ear.of("density_figures")[-1]["units"] == 0


def test_the_reconstruction_follows_the_sliders_where_weights_were_kept(study: mv.Study) -> None:
    table, other = PlantedTable(), density_study().model
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(2)
    table.kept[1e-4, 20] = {k: v.clone() for k, v in other.state_dict().items()}
    controller, ear = begun(study, table)
    ask(controller, ear, "open", example=3)
    ask(controller, ear, "set", units=UNITS)
    own = ear.of("density_reconstruction")[-1]
    ask(controller, ear, "density_at", rate=0, epoch=0)
    then = ear.of("density_reconstruction")[-1]
    one = {key: value[3:4] for key, value in study.inputs.items()}
    with torch.no_grad(), mv.ablate(other, UNITS) as model:
        after = model.reconstruct(**one)
    error = float((after.double() - one["images"]).square().sum())
    assert own["own"] and not then["own"]
    assert then["errors"]["after"] == pytest.approx(error, rel=1e-4) != own["errors"]["after"]
    ask(controller, ear, "density_at", rate=0, epoch=1)  # none were kept then: the study's model
    assert ear.of("density_reconstruction")[-1]["errors"] == own["errors"]


def test_pictures_of_the_study_need_not_have_the_levels_of_its_inputs() -> None:
    given = density_study()
    shown = (given.inputs["images"][:, 0] * 255).byte().numpy()
    _, ear = begun(density_study(images=shown))
    told = decoded(ear.last("density_reconstruction"))
    assert told["image"].max() == 255 and 0 < told["before"].mean() < 255
    assert decoded(ear.last("density_nearest"))["generated"].max() > 200


class Watched(nn.Module):
    """Counts the calls of a model that is somebody else's."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, images: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.inner(images, noise)

    def reconstruct(self, images: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.inner.reconstruct(images, noise)


def test_the_users_model_is_left_alone() -> None:
    given = density_study()
    model = Watched(given.model).eval()
    study = mv.Study(model, given.inputs, given.labels, given.groups, task=given.task)
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    state = torch.random.get_rng_state()
    controller, ear = begun(study)
    ask(controller, ear, "set", units="inner.decoder.fc1:0-5")
    assert "after" in ear.of("density_reconstruction")[-1]["errors"] and ear.of("error") == []
    assert model.calls == 0
    assert {name: dict(vars(module)) for name, module in model.named_modules()} == before
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_model_that_cannot_reconstruct_is_not_asked_to() -> None:
    given = density_study()
    given.model.reconstruct = None
    _, ear = begun(given)
    assert ear.of("density_reconstruction") == [] and ear.of("error") == []


def test_groups_of_one_and_of_half_trained_images() -> None:
    study = density_study(groups={"one": [2], "mixed": range(30, 48)})
    _, ear = begun(study)
    rows = {row["name"]: row for row in ear.of("density_figures")[-1]["rows"]}
    assert rows["one"]["low"] == rows["one"]["high"] == rows["one"]["before"]
    assert rows["mixed"]["measure"] == "M"


def test_units_are_ranked_by_the_opened_image(study: mv.Study) -> None:
    controller, ear = begun(study)
    effects = mv.sweep(study, progress=False)
    for index in (2, 7):
        ask(controller, ear, "open", example=index)
        if index == 2:
            ask(controller, ear, "density_hold")
        told = ear.last("scores", key="opened image")
        assert told.content["label"] == f"effect on M of image {index}"
        assert decoded(told)["value"] == pytest.approx(
            -effects.margin_change[:, index].numpy(), abs=1e-4
        )
        assert (decoded(told)["state"] == 2).all()
    assert controller.score == "opened image"
    assert ear.of("picks")[-1]["scores"][-1]["label"] == "effect on M of image 7"
    ask(controller, ear, "top", k=3)
    best = decoded(told)["value"].argsort()[::-1][:3]
    assert controller.session.units == mv.UnitSet([effects.units[row] for row in best])
    # Another intervention has effects of its own.
    ask(controller, ear, "intervention", key="mean")
    other = mv.sweep(study, how="mean", progress=False).margin_change[:, 7].numpy()
    assert decoded(ear.last("scores", key="opened image"))["value"] == pytest.approx(
        -other, abs=1e-4
    )


def test_ranking_by_no_image_is_one_clear_line(study: mv.Study) -> None:
    controller, ear = begun(study)
    ask(controller, ear, "open", example=None)
    ask(controller, ear, "density_hold")
    assert ear.of("error")[-1]["text"] == "no image is open; open one to rank the units by it."


# Sliders, code, page, still ----------------------------------------------------------------------


def test_looking_at_another_epoch_changes_words_and_code(study: mv.Study) -> None:
    controller, ear = begun(study)
    part = controller.part(DensityExplorer)
    at_end = part.sentence
    ask(controller, ear, "density_at", rate=0, epoch=1)
    assert (part.rate, part.epoch) == (0, 1) and ear.of("density_at")[-1]["epoch"] == 1
    assert "after 40 epochs: M " in part.sentence != at_end
    assert "table.estimate(0.0001, 40)" in part.code()


@pytest.mark.parametrize("fields", [{"rate": 2, "epoch": 0}, {"rate": 0, "epoch": -1}, {"rate": 0}])
def test_a_place_that_is_none_is_one_clear_line(study: mv.Study, fields: dict[str, int]) -> None:
    controller, ear = begun(study)
    ask(controller, ear, "density_at", **fields)
    assert re.search("there is no (learning rate|epoch) at place", ear.of("error")[-1]["text"])
    assert controller.part(DensityExplorer).epoch == 2


def test_the_sentence_names_the_image_and_what_the_units_do(study: mv.Study) -> None:
    controller, ear = begun(study)
    ask(controller, ear, "set", units=UNITS)
    words = controller.part(DensityExplorer).sentence
    pattern = (
        r"Image \d after 60 epochs: M \d\d\.\d nats, null 0\.3 to 0\.6; 6 units off: "
        r"planted M 10\.0 → [\d.]+, clean M [−\d.]+ → [−\d.]+, test log p −[\d.]+ → −[\d.]+\."
    )
    assert re.fullmatch(pattern, words)


def test_page_code_and_still_are_the_explorers(study: mv.Study, tmp_path: Path) -> None:
    with density(study, PlantedTable()) as view:
        view.session.ablate(UNITS, how="mean")
        view.export(str(tmp_path / "page.html"))
        text = (tmp_path / "page.html").read_text()
        assert 'document.getElementById("memviz"), "density"' in text
        bundle = view._repr_mimebundle_()
        assert bundle is not None and "data:image/png;base64," in bundle[0]["text/html"]
        told: list[Any] = []
        view.send = lambda content, buffers=None: told.append(content)
        view._hear({"type": "code"})
        (code,) = [content["text"] for content in told if content["type"] == "code"]
        assert f"view.session.ablate({UNITS!r})" in code and "view.session.use('mean')" in code
        compile(code, "code", "exec")


def test_text_of_others_is_only_ever_text(tmp_path: Path) -> None:
    study = density_study(name=EVIL, groups={EVIL: range(6), "test": range(40, 48)})
    with density(study, PlantedTable()) as view:
        view.export(str(tmp_path / "page.html"))
    text = (tmp_path / "page.html").read_text()
    assert "<img src=x" not in text.replace("\\u003c", "")
    snapshot = text.split('id="snapshot">')[1].split("</script>")[0]
    assert any(m["msg"]["type"] == "density" for m in json.loads(snapshot))


# What is refused ---------------------------------------------------------------------------------


def test_bad_tables_are_one_clear_line_each(study: mv.Study) -> None:
    with pytest.raises(TypeError, match="give a study made by mv.probes.density.density_study"):
        density(study, {"rates": [1e-3]})
    table = PlantedTable()
    table.epochs = ()
    with pytest.raises(ValueError, match="2 learning rates, 0 epochs and 40 images"):
        density(study, table)
    table = PlantedTable()
    table.examples = table.examples + 20
    with pytest.raises(ValueError, match="examples 20 to 59, and the study has 48"):
        density(study, table)
    table = PlantedTable()
    table.examples = table.examples // 2
    with pytest.raises(ValueError, match="names an example twice"):
        density(study, table)


def test_likelihoods_that_are_no_numbers_come_last(study: mv.Study) -> None:
    table = PlantedTable()
    table.noise[:, 0] = np.nan
    controller, ear = begun(study, table)
    assert controller.session.opened == 1
    ask(controller, ear, "open", example=0)
    assert "M unknown nats" in controller.part(DensityExplorer).sentence
    assert ear.of("error") == []
    assert json.dumps(ear.of("density")[-1], allow_nan=False)


def test_an_image_that_only_its_trainings_know_comes_first(study: mv.Study) -> None:
    table = PlantedTable()
    table.noise[~table.is_in[:, 20], 20] = -np.inf
    controller, ear = begun(study, table)
    assert controller.session.opened == 20
    assert "M ∞ nats, null ∞ to ∞" in controller.part(DensityExplorer).sentence
    assert json.dumps(ear.of("density")[-1], allow_nan=False)
    assert ear.of("error") == []


def test_a_study_of_another_task_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the study's task is .*needs a model that returns log p"):
        density(flat_study(examples=48), PlantedTable())
