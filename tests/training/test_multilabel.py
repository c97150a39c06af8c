import json
import shutil
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score

from cellpheno.classes import label_parts, membership
from cellpheno.errors import InputError
from cellpheno.models.pooling import NoisyAnd
from cellpheno.training.bags import BagOrder, WellBags, collate, plate_limits
from cellpheno.training.checkpoint import load_model, several_classes
from cellpheno.training.datamodule import PlateDataModule
from cellpheno.training.predict import predict_wells

pytestmark = pytest.mark.filterwarnings("error")
CLASSES = ("ring", "spots")


@pytest.fixture(scope="module")
def limits(sets_plate, recipe):
    return plate_limits(sets_plate, recipe.normalization, seed=0)


@pytest.fixture(scope="module")
def learned(sets_plate, recipe, limits, trainer_of, tmp_path_factory):
    """Trained on four wells of each set; the model's folder, and the two wells that it has not seen."""
    number = sets_plate["Metadata_Well"].str[1:].astype(int)
    about = {"classes": CLASSES, "limits": limits, "multilabel": True, "trainer": trainer_of(12)}
    folder = tmp_path_factory.mktemp("sets") / "model"
    recipe.fit(sets_plate[number <= 4], sets_plate.iloc[:0], folder, **about)
    return folder, sets_plate[number > 4]


def test_sets_of_classes_are_learned_and_the_card_says_that_a_well_may_have_several(learned, limits):
    folder, test = learned
    model, card = load_model(folder)
    assert model.multilabel is several_classes(card) is True
    assert (card["class_counts"], card["n_labelled"]) == ({"ring": 8, "spots": 8}, 16)
    found = predict_wells(model, card, test, limits=limits)
    truth = membership(test["label"], CLASSES, multilabel=True)
    p = found[["prob_ring", "prob_spots"]].to_numpy()
    assert average_precision_score(truth, p, average="macro") > 0.85
    np.testing.assert_allclose(p, 1 / (1 + np.exp(-found[["logit_ring", "logit_spots"]].to_numpy())))
    assert [label_parts(text, True) for text in found["pred"]] == [
        [name for name, chance in zip(CLASSES, row, strict=True) if chance > 0.5] for row in p
    ]


def test_a_card_from_before_has_one_class_a_well(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "old")
    card = json.loads((folder / "card.json").read_text())
    assert card["model"].pop("multilabel") is False
    card.pop("n_labelled")
    (folder / "card.json").write_text(json.dumps(card))
    model, card = load_model(folder)
    assert not model.multilabel
    assert not several_classes(card)


def test_a_pooling_of_scores_takes_sets_of_classes(sets_plate, recipe, limits, tmp_path):
    few = sets_plate[sets_plate["Metadata_Well"].str[1:].isin(["01", "02"])]
    about = {"classes": CLASSES, "limits": limits, "multilabel": True, "pooling": NoisyAnd}
    recipe.fit(few, sets_plate[sets_plate["Metadata_Well"].str.endswith("3")], tmp_path / "model", **about)
    history = pd.read_csv(tmp_path / "model" / "history.csv")
    assert history["val_balanced_accuracy"].between(0, 1).all()
    found = predict_wells(*load_model(tmp_path / "model"), few, limits=limits)
    assert found[["score_ring", "score_spots"]].to_numpy().min() > 0


def test_bags_carry_a_row_of_yes_and_no(sets_plate, recipe, limits):
    bags = WellBags(sets_plate, CLASSES, recipe.normalization, limits, cells_per_bag=8, multilabel=True)
    batch = collate([bags[(0, i)] for i in (0, 6, 18)])
    assert batch.labels.dtype == torch.float32
    assert batch.labels.tolist() == [[0, 0], [1, 0], [1, 1]]
    assert sorted(i for _, i in BagOrder(bags.labels, shuffle=True)) == list(range(24))


def test_what_cannot_be_is_refused(sets_plate, recipe, limits):
    data = partial(PlateDataModule, sets_plate, sets_plate.iloc[:0], normalization=recipe.normalization, limits=limits)
    with pytest.raises(InputError, match=r"data\.balanced=true"):
        data(classes=CLASSES, seed=0, multilabel=True, balanced=True)
    with pytest.raises(InputError, match="'spots' is none of the classes"):
        data(classes=("ring",), seed=0, multilabel=True)
