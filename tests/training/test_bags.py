import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cellpheno.errors import DamagedInput, InputError
from cellpheno.images.crops import read_crops
from cellpheno.models.transforms import PerCrop, PlatePercentiles
from cellpheno.training.bags import BagOrder, WellBags, collate, collate_alone, plate_limits, window
from cellpheno.training.datamodule import PlateDataModule
from cellpheno.training.instances import Cells


@given(
    n_cells=st.integers(1, 500), cells_per_bag=st.integers(1, 200), seed=st.integers(0, 99), round_=st.integers(0, 3)
)
def test_every_round_of_epochs_shows_every_cell(n_cells, cells_per_bag, seed, round_):
    epochs = -(-n_cells // cells_per_bag)
    seen = np.zeros(n_cells, int)
    for epoch in range(round_ * epochs, (round_ + 1) * epochs):
        parts = window(n_cells, cells_per_bag, seed, epoch)
        bag = np.concatenate([np.arange(n_cells)[part] for part in parts])
        assert len(bag) == len(set(bag.tolist())) == min(n_cells, cells_per_bag)
        seen[bag] += 1
    assert seen.min() >= 1
    assert seen.max() <= 2


def test_rounds_begin_elsewhere():
    starts = {window(640, 64, seed=0, epoch=10 * round_)[0].start for round_ in range(30)}
    assert len(starts) > 5
    assert all(start % 64 == 0 for start in starts)


@pytest.fixture
def bags(plate, recipe):
    return WellBags(plate, recipe.classes, recipe.normalization, recipe.limits, cells_per_bag=16)


def test_a_bag_is_the_stretched_crops_of_its_window(bags, plate, recipe):
    bag = bags[(3, 0)]
    parts = [read_crops(plate["place"][0], part).pixels for part in window(int(bags.sizes[0]), 16, 2**31, 3)]
    assert bag.instances.shape == (16, *parts[0].shape[1:])
    everything = read_crops(plate["place"][0]).pixels
    low, high = recipe.limits["P1"][0].T[:, :, None, None]
    expected = torch.from_numpy((everything.astype(np.float32) - low) / (high - low)).clamp_max(3.0)
    distance = (bag.instances[:, None] - expected[None]).abs().amax((2, 3, 4))  # (16, n)
    assert distance.min(1).values.max() < 1e-5
    assert bag.metadata == {"Metadata_Plate": "P1", "Metadata_Well": "A01"}


def test_a_bag_does_not_depend_on_the_other_wells(bags, plate, recipe):
    alone = WellBags(plate.iloc[[7]], recipe.classes, recipe.normalization, recipe.limits, cells_per_bag=16)
    assert torch.equal(alone[(5, 0)].instances, bags[(5, 7)].instances)


def test_wells_without_cells_are_never_a_bag(bags, plate):
    assert "D01" in set(plate["Metadata_Well"])
    assert "D01" not in set(bags.wells["Metadata_Well"])
    assert len(bags) == len(plate) - 1


def test_all_faults_are_told_at_once(plate, recipe):
    other = plate.assign(Metadata_Plate="P9", label=plate["label"].replace("ring", "rign"))
    with pytest.raises(InputError) as caught:
        WellBags(other, recipe.classes, recipe.normalization, recipe.limits)
    assert len(caught.value.faults) == 2
    assert "'rign'" in caught.value.faults[0]
    assert "'P9'" in caught.value.faults[1]


def test_wells_without_any_cell_are_refused(plate, recipe):
    with pytest.raises(InputError, match="no cell or field in any of 1 wells"):
        WellBags(plate[plate["Metadata_Well"] == "D01"], recipe.classes, recipe.normalization, recipe.limits)


def test_collate_keeps_rows_with_their_bags(bags):
    parts = [bags[(0, i)] for i in (0, 9, 20)]
    batch = collate([parts[0]._replace(instances=parts[0].instances[:3]), *parts[1:]])
    assert batch.bag.tolist() == [0] * 3 + [1] * 16 + [2] * 16
    assert torch.equal(batch.instances[batch.bag == 2], parts[2].instances)
    assert batch.labels.tolist() == [part.label for part in parts]
    assert [row["Metadata_Well"] for row in batch.metadata] == ["A01", "B01", "C03"]


def test_balanced_order_shows_all_classes_alike_and_every_well():
    labels = np.array([0] * 7 + [1] * 3 + [2] * 2)
    order = BagOrder(labels, shuffle=True, balanced=True)
    keys = [i for _, i in order]
    assert len(keys) == len(order) == 21
    assert np.bincount(labels[keys]).tolist() == [7, 7, 7]
    assert set(keys) == set(range(12))
    assert max(np.bincount(keys)[labels == 1]) - min(np.bincount(keys)[labels == 1]) <= 1


def test_order_changes_with_the_epoch_and_repeats_with_it():
    order = BagOrder(np.arange(20) % 3, shuffle=True, seed=4)
    first = list(order)
    order.set_epoch(1)
    second = list(order)
    order.set_epoch(0)
    assert list(order) == first
    assert [i for _, i in second] != [i for _, i in first]
    assert sorted(i for _, i in second) == list(range(20))
    assert {epoch for epoch, _ in second} == {1}


def test_limits_are_a_plates_own_and_follow_seed_not_order(plate):
    two = pd.concat([plate, plate.iloc[:9].assign(Metadata_Plate="P2")])
    stretch = PlatePercentiles()
    limits = plate_limits(two, stretch, seed=0, wells_per_plate=4)
    again = plate_limits(two.sample(frac=1, random_state=1), stretch, seed=0, wells_per_plate=4)
    assert set(limits) == {"P1", "P2"}
    assert all(np.array_equal(limits[name], again[name]) for name in limits)
    assert np.array_equal(plate_limits(plate, stretch, seed=0, wells_per_plate=4)["P1"], limits["P1"])
    pixels = np.concatenate([read_crops(path).pixels for path in plate["place"][:9]])
    whole = plate_limits(plate.iloc[:9], stretch, seed=0)["P1"]
    assert np.array_equal(whole, stretch.limits(pixels))


def test_limits_of_crops_need_no_plate(plate):
    assert plate_limits(plate, PerCrop(), seed=0) == {}
    bag = WellBags(plate, ["control", "ring", "spots"], PerCrop(), {})[(0, 0)]
    assert bag.instances.amax().item() == pytest.approx(1)


def test_plate_without_cells_has_no_limits(plate):
    with pytest.raises(InputError, match="plate 'P1': no cell in any of 1 wells"):
        plate_limits(plate[plate["Metadata_Well"] == "D01"], PlatePercentiles(), seed=0)


def test_validation_gives_whole_wells_one_at_a_time(plate, recipe):
    data = PlateDataModule(
        plate, plate, classes=recipe.classes, normalization=recipe.normalization, limits=recipe.limits, seed=0
    )
    batches = list(data.val_dataloader())
    assert [len(batch.labels) for batch in batches] == [1] * 27
    assert [len(batch.instances) for batch in batches] == data.validation.sizes.tolist()


@pytest.mark.timeout(60)  # a forked process that waits for a lock of a thread it does not have waits for ever
@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_worker_processes_read_what_this_one_reads(plate, recipe, start_method):
    def batches(**settings):
        given = {"classes": recipe.classes, "normalization": recipe.normalization, "limits": recipe.limits, "seed": 0}
        return list(PlateDataModule(plate, plate.iloc[:0], **given, **settings).train_dataloader())

    here = batches()  # the main process has read Zarr before it starts others
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)  # Python 3.12 and threads
        there = batches(num_workers=2, start_method=start_method)
    assert len(here) == len(there) == 7
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.instances, other.instances)
        assert one.metadata == other.metadata


def test_an_unknown_start_method_is_refused(plate, recipe):
    given = {"classes": recipe.classes, "normalization": recipe.normalization, "limits": recipe.limits, "seed": 0}
    with pytest.raises(InputError, match=r"data\.start_method=thread: wanted one of fork"):
        PlateDataModule(plate, plate, **given, start_method="thread")


def test_a_damaged_well_stops_the_reading_ahead(plate, recipe, tmp_path):
    lost = plate.iloc[:2].assign(place=[plate["place"][0], str(tmp_path / "B03.zarr")])
    shutil.copytree(plate["place"][1], tmp_path / "B03.zarr")
    given = {"classes": recipe.classes, "normalization": recipe.normalization, "limits": recipe.limits, "seed": 0}
    loader = PlateDataModule(lost, lost.iloc[:0], **given, bags_per_batch=1).train_dataloader()
    (tmp_path / "B03.zarr/pixels/c/0/0/0/0").unlink()
    with pytest.raises(DamagedInput, match=r"B03\.zarr: pixels lacks"):
        list(loader)


def test_pixels_that_are_kept_are_read_once_and_are_the_same(plate, recipe):
    class Counted(Cells):
        read = 0

        def pixels(self, place, part):
            type(self).read += 1
            return super().pixels(place, part)

    bags = (plate, recipe.classes, recipe.normalization, recipe.limits)
    kept = WellBags(*bags, cells_per_bag=16, instances=Counted(), keep_mb=100)
    fresh = WellBags(*bags, cells_per_bag=16)
    for epoch in range(3):
        for i in range(len(fresh)):
            assert torch.equal(kept[epoch, i].instances, fresh[epoch, i].instances)
    assert kept.keeps
    assert Counted.read == 1 + len(kept)  # the size of one cell, then each well
    kept.forget()
    kept[0, 0]
    assert Counted.read == 2 + len(kept)
    assert not WellBags(*bags, cells_per_bag=16, keep_mb=0.001).keeps


def test_workers_keep_no_pixels_that_they_would_forget(plate, recipe):
    given = {"classes": recipe.classes, "normalization": recipe.normalization, "limits": recipe.limits, "seed": 0}
    kept = [PlateDataModule(plate, plate, **given, num_workers=n) for n in (0, 2)]
    assert [[data.train.keeps, data.validation.keeps] for data in kept] == [[True] * 2, [False] * 2]


def test_a_batch_of_cells_alone_has_the_label_of_its_well_for_each(plate, recipe):
    bags = WellBags(plate, recipe.classes, recipe.normalization, recipe.limits, cells_per_bag=3)
    two = [bags[0, 0], bags[0, len(bags) - 1]]
    batch = collate_alone(two)
    assert batch.bag.tolist() == list(range(6))
    assert batch.labels.tolist() == [two[0].label] * 3 + [two[1].label] * 3
    assert [m["Metadata_Well"] for m in batch.metadata] == [two[0].metadata["Metadata_Well"]] * 3 + [
        two[1].metadata["Metadata_Well"]
    ] * 3
