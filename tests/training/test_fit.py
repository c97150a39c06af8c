import warnings
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from cellpheno.errors import InputError
from cellpheno.models.attention import GatedAttention
from cellpheno.models.encoders import SmallResNet
from cellpheno.models.mil import MILClassifier
from cellpheno.models.pooling import NoisyAnd
from cellpheno.models.transforms import augment
from cellpheno.stages.rehearsal import check_training
from cellpheno.training.bags import WellBags
from cellpheno.training.checkpoint import load_model
from cellpheno.training.datamodule import PlateDataModule
from cellpheno.training.fit import BestEpoch, class_weights
from cellpheno.training.instances import Cells, Embedded
from cellpheno.training.measured import Measured
from cellpheno.training.predict import predict_wells
from tests.training.conftest import predict_all

NETWORK = {"encoder": SmallResNet, "pooling": GatedAttention, "model": MILClassifier, "optimizer": torch.optim.SGD}

pytestmark = pytest.mark.filterwarnings("error")


def held_out(plate):
    """Training, validation and test wells: six, one and two a class."""
    number = plate["Metadata_Well"].str[1:].astype(int)
    filled = plate["Metadata_Well"] != "D01"
    return plate[(number <= 6) & filled], plate[number == 7], plate[number >= 8]


def auroc(predictions, wells, classes):
    truth = wells.set_index("Metadata_Well").loc[predictions["Metadata_Well"], "label"]
    scores = predictions[[f"prob_{name}" for name in classes]].to_numpy()
    return roc_auc_score(truth, scores, multi_class="ovr", labels=list(classes))


@pytest.fixture(scope="module")
def learned(plate, recipe, trainer_of, tmp_path_factory):
    train, validation, test = held_out(plate)
    folder = recipe.fit(train, validation, tmp_path_factory.mktemp("learned"), trainer=trainer_of(10))
    return predict_all(*load_model(folder), pd.concat([validation, test]), limits=recipe.limits), folder


def test_attention_learns_the_classes_of_wells_it_has_not_seen(learned, plate, recipe):
    (predictions, _), _ = learned
    assert auroc(predictions, plate, recipe.classes) > 0.9


def test_attention_finds_the_planted_cells_and_shuffled_attention_does_not(learned, plate):
    (_, instances), _ = learned
    found, shuffled = [], []
    rng = np.random.default_rng(0)
    for _, well in plate[plate["responders"].map(len) > 0].iterrows():
        cells = instances[instances["Metadata_Well"] == well["Metadata_Well"]]
        if len(cells):
            truth = cells["Metadata_ObjectNumber"].isin(well["responders"])
            found.append(roc_auc_score(truth, cells["weight"]))
            shuffled += [roc_auc_score(truth, rng.permutation(cells["weight"])) for _ in range(5)]
    assert np.median(found) > 0.8
    assert abs(np.mean(shuffled) - 0.5) < 0.05


def test_shuffled_labels_teach_nothing(plate, recipe, trainer_of, tmp_path):
    train, validation, test = held_out(plate)
    wrong = train.assign(label=np.roll(train["label"].to_numpy()[np.argsort(train.index % 6, kind="stable")], 1))
    folder = recipe.fit(wrong, validation, tmp_path, trainer=trainer_of(4))
    predictions = predict_wells(*load_model(folder), pd.concat([validation, test]), limits=recipe.limits)
    assert auroc(predictions, plate, recipe.classes) < 0.8


def test_history_has_a_row_an_epoch_and_the_card_names_the_best(learned):
    folder = learned[1]
    history = pd.read_csv(folder / "history.csv")
    assert list(history) == ["epoch", "train_loss", "val_loss", "val_balanced_accuracy", "learning_rate"]
    assert history["epoch"].tolist() == list(range(len(history)))
    assert load_model(folder).card["training"]["best_epoch"] == history["val_loss"].idxmin()
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]


def test_one_seed_gives_the_same_bytes_and_another_seed_others(recipe, few, trained, tmp_path):
    torch.rand(3)  # what went before must not matter
    again, other = recipe.fit(*few, tmp_path / "again"), recipe.fit(*few, tmp_path / "other", seed=1)
    for name in ("model.safetensors", "card.json", "history.csv"):
        assert (again / name).read_bytes() == (trained / name).read_bytes()
    assert (other / "model.safetensors").read_bytes() != (trained / "model.safetensors").read_bytes()


def test_training_leaves_random_numbers_and_threads_as_they_were(recipe, few, tmp_path):
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    recipe.fit(*few, tmp_path, threads=1 if threads > 1 else 2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_a_byte(recipe, few, trained, tmp_path, workers):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)  # Python 3.12 and threads
        folder = recipe.fit(*few, tmp_path, data=partial(recipe.data, num_workers=workers))
    assert (folder / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()


def test_training_says_nothing(recipe, few, tmp_path, capfd, caplog):
    recipe.fit(*few, tmp_path)
    captured = capfd.readouterr()
    assert (captured.out, captured.err, caplog.text) == ("", "", "")


def test_without_validation_wells_the_last_epoch_is_kept(recipe, few, tmp_path):
    train, validation = few
    folder = recipe.fit(train, validation.iloc[:0], tmp_path)
    assert load_model(folder).card["training"]["best_epoch"] == 1
    assert pd.read_csv(folder / "history.csv")["val_loss"].isna().all()


def test_the_best_epoch_is_kept_and_patience_ends_the_training():
    best, network = BestEpoch(patience=2), torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    stopped = []
    for epoch, loss in enumerate([3.0, 1.0, 2.0, 0.5, 0.6, 0.7, 0.8]):
        torch.nn.init.constant_(network.weight, epoch)
        run = SimpleNamespace(current_epoch=epoch, optimizers=[optimizer], should_stop=False)
        run.callback_metrics = {"val_loss": torch.tensor(loss)}
        best.on_train_epoch_end(run, network)
        stopped.append(run.should_stop)
    assert stopped == [False] * 5 + [True] * 2
    assert (best.epoch, best.weights["weight"].item()) == (3, 3.0)
    assert [row["learning_rate"] for row in best.history] == [0.1] * 7


def test_an_epoch_whose_loss_is_not_a_number_is_never_the_best():
    best, network = BestEpoch(), torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for epoch, loss in enumerate([float("nan"), 2.0, float("nan")]):
        run = SimpleNamespace(current_epoch=epoch, optimizers=[optimizer], should_stop=False)
        run.callback_metrics = {"val_loss": torch.tensor(loss)}
        best.on_train_epoch_end(run, network)
    assert (best.epoch, best.loss) == (1, 2.0)


def test_a_training_that_diverges_is_refused(recipe, few, tmp_path):
    train, validation = few
    with pytest.raises(InputError, match="the training diverged"):
        recipe.fit(train, validation, tmp_path, optimizer=partial(torch.optim.AdamW, lr=1e36))
    with pytest.raises(InputError, match=r"lower optimizer\.lr"):
        recipe.fit(train, validation.iloc[:0], tmp_path, optimizer=partial(torch.optim.AdamW, lr=1e36))


@pytest.mark.full
def test_bfloat16_learns_as_well(plate, recipe, trainer_of, tmp_path):
    train, validation, test = held_out(plate)
    scores = {}
    for precision in ("32-true", "bf16-mixed"):
        folder = recipe.fit(train, validation, tmp_path / precision, trainer=trainer_of(10, precision))
        predictions = predict_wells(*load_model(folder), pd.concat([validation, test]), limits=recipe.limits)
        scores[precision] = auroc(predictions, plate, recipe.classes)
    assert scores["bf16-mixed"] > scores["32-true"] - 0.03


def test_noisy_and_trains_with_its_two_losses(recipe, few, tmp_path):
    model, card = load_model(recipe.fit(*few, tmp_path, pooling=NoisyAnd))
    knobs = {"slope": 10.0, "threshold": 0.5}
    assert card["pooling"] == {"_target_": "cellpheno.models.pooling.NoisyAnd", "_partial_": True, **knobs}
    assert model.pooling.threshold_logit.abs().sum() > 0
    predictions, instances = predict_all(model, card, few[1], limits=recipe.limits)
    assert predictions[[f"score_{name}" for name in recipe.classes]].to_numpy().max() <= 1
    np.testing.assert_allclose(instances.groupby("Metadata_Well")["weight"].sum(), 1, atol=1e-6)


def test_class_without_a_training_well_is_refused(recipe, few, tmp_path):
    train, validation = few
    with pytest.raises(InputError, match=r"\['spots'\] have no training well"):
        recipe.fit(train[train["label"] != "spots"], validation, tmp_path)


def test_class_weights_make_classes_count_alike():
    labels = ["a"] * 6 + ["b"] * 3 + ["c"]
    weights = dict(zip("abc", class_weights(labels, "abc").tolist(), strict=True))
    shares = [labels.count(name) * weights[name] for name in "abc"]
    assert shares == pytest.approx([10 / 3] * 3)


def test_a_training_starts_from_another_models_encoder_and_frozen_layers_stay(recipe, few, trained, tmp_path):
    settings = {"start": trained, "model": partial(MILClassifier, frozen=["encoder"])}
    folder = recipe.fit(*few, tmp_path / "tuned", **settings, seed=5)
    first, tuned = (load_model(place).model.state_dict() for place in (trained, folder))
    same = {name: torch.equal(first[name], tuned[name]) for name in first}
    assert all(kept for name, kept in same.items() if name.startswith("encoder."))
    assert not same["head.weight"]
    assert load_model(folder).card["training"]["start"] == load_model(trained).card["weights_sha256"]


def test_a_finished_training_keeps_no_pixels(recipe, few, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(WellBags, "__init__", remembering(WellBags.__init__, made))
    recipe.fit(*few, tmp_path)
    assert len(made) == 2
    assert all(bags.keeps and not bags._kept for bags in made)


def remembering(start, made):
    def begin(self, *args, **options):
        start(self, *args, **options)
        made.append(self)

    return begin


def test_validation_in_some_epochs_only_is_refused(recipe, few, trainer_of, tmp_path):
    trainer = partial(trainer_of(2), check_val_every_n_epoch=2)
    with pytest.raises(InputError, match="check_val_every_n_epoch"):
        recipe.fit(*few, tmp_path, trainer=trainer)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"precision": "bf16-true"}, r"trainer\.precision=bf16-true: wanted 32-true or bf16-mixed"),
        ({"overfit_batches": 1}, r"trainer\.overfit_batches=1: wanted 0"),
        ({"limit_train_batches": 0}, r"trainer\.limit_train_batches=0: wanted 1 or more"),
    ],
)
def test_a_trainer_that_the_bags_do_not_allow_is_refused_without_data(trainer_of, setting, said):
    with pytest.raises(InputError, match=said):
        check_training({"trainer": partial(trainer_of(), **setting)} | NETWORK)


@pytest.mark.parametrize("kind", [Embedded, partial(Measured, columns=["Cells_*"])])
def test_augmentation_of_features_is_refused(trainer_of, kind):
    settings = {"trainer": trainer_of(), "instances": kind} | NETWORK
    check_training(settings | {"augmentation": None})
    check_training(settings | {"augmentation": augment, "instances": Cells})
    with pytest.raises(InputError, match=r"augmentation: features are no pictures .* give augmentation=none"):
        check_training(settings | {"augmentation": augment})


def test_every_batch_of_an_accumulated_step_draws_numbers_of_its_own(recipe, few, trainer_of, tmp_path):
    drawn = []

    def noted(crops, generator):
        drawn.append(generator.initial_seed())
        return crops

    data = partial(PlateDataModule, cells_per_bag=4, bags_per_batch=2)
    for accumulated in (1, 3):
        trainer = partial(trainer_of(2), accumulate_grad_batches=accumulated)
        recipe.fit(few[0], few[1].iloc[:0], tmp_path / str(accumulated), trainer=trainer, data=data, augmentation=noted)
    assert drawn == [0, 1, 2, 3, 4, 5] * 2  # 3 batches an epoch, whatever the number of steps


def test_a_training_without_a_step_is_refused(few, recipe, tmp_path):
    alone = partial(PlateDataModule, cells_per_bag=1, bags_per_batch=1)  # BatchNorm learns nothing from one cell
    with pytest.raises(InputError, match=r"no step was trained: .* raise data.bags_per_batch"):
        recipe.fit(few[0], few[1].iloc[:0], tmp_path / "model", data=alone)
    assert not (tmp_path / "model/card.json").exists()
