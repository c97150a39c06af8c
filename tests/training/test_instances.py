"""Fields and tiles, read from a plate of known pixels."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from cellpheno.errors import InputError
from cellpheno.images.crops import Crops, write_crops
from cellpheno.models.encoders import KrausNet
from cellpheno.models.pooling import NoisyAnd
from cellpheno.models.transforms import PlatePercentiles
from cellpheno.plates.plate import open_plate
from cellpheno.plates.write import create_plate, write_image
from cellpheno.report.class_maps import class_map
from cellpheno.training.bags import WellBags, plate_limits, square
from cellpheno.training.checkpoint import load_model
from cellpheno.training.datamodule import PlateDataModule
from cellpheno.training.instances import Embedded, Fields, Tiles
from cellpheno.training.predict import predict_wells
from tests.training.conftest import predict_all

SITES, HEIGHT, WIDTH = (2, 5), 150, 96


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    """Six wells of two fields; those of class "bright" have one bright square of 40 pixels somewhere."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("fields")
    wells = {f"B{column:02d}": "bright" if column % 2 else "plain" for column in range(2, 8)}
    plate = create_plate(folder / "P1.zarr", "P1", {well: list(SITES) for well in wells}, ["a", "b"], pixel_size_um=0.5)
    images = {}
    for well, label in wells.items():
        for index, site in enumerate(SITES):
            image = rng.integers(90, 110, (2, HEIGHT, WIDTH)).astype(np.uint16)
            if label == "bright":
                y, x = rng.integers(0, HEIGHT - 40), rng.integers(0, WIDTH - 40)
                image[1, y : y + 40, x : x + 40] += 150
            write_image(plate.well(well).fields[index], image)
            images[well, site] = image
    places = [str(Fields().place(plate, well)) for well in wells]
    table = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": list(wells), "place": places})
    return table.assign(label=list(wells.values())), images


def test_fields_are_those_of_the_plate(fields):
    table, images = fields
    crops = Fields().read(table["place"][0], slice(0, 2))
    assert crops.site.tolist() == list(SITES)
    np.testing.assert_array_equal(crops.pixels, np.stack([images["B02", site] for site in SITES]))
    plate = open_plate(table["place"][0].rsplit("/", 1)[0])
    assert Fields(level=1).optics(plate) == (("a", "b"), 1.0)
    with pytest.raises(InputError, match="level 9"):
        Fields(level=9).pixels(table["place"][0], slice(0, 1))


@pytest.mark.parametrize("part", [slice(0, 4), slice(1, 3), slice(3, 4)])
def test_tiles_equal_a_naive_cut(fields, part):
    table, images = fields
    tiles = Tiles(tile_px=64)
    assert tiles.count(table["place"][0]) == 4  # 150 x 96: two below each other, one beside
    naive = [(site, n, images["B02", site][:, y : y + 64, 16:80]) for site in SITES for n, y in ((1, 11), (2, 75))][
        part
    ]
    found = tiles.read(table["place"][0], part)
    assert list(zip(found.site.tolist(), found.object_number.tolist(), strict=True)) == [n[:2] for n in naive]
    np.testing.assert_array_equal(found.pixels, np.stack([n[2] for n in naive]))


def test_a_tile_larger_than_the_field_is_refused(fields):
    with pytest.raises(InputError, match="150 x 96 pixels at level 0, tile_px=128"):
        Tiles().count(fields[0]["place"][0])


def test_a_training_step_sees_a_square_that_moves(fields):
    table, _ = fields
    limits = plate_limits(table, PlatePercentiles(), seed=0, instances=Fields())
    bags = WellBags(
        table, ["bright", "plain"], PlatePercentiles(), limits, cells_per_bag=1, patch_px=64, instances=Fields()
    )
    first, again, later = bags[(0, 0)].instances, bags[(0, 0)].instances, bags[(2, 0)].instances
    assert first.shape == (1, 2, 64, 64)
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert square(np.zeros((1, 1, 30, 90)), 64, 0, 0).shape == (1, 1, 30, 30)


@pytest.fixture(scope="module")
def trained_on_fields(fields, recipe, trainer_of, tmp_path_factory):
    table, _ = fields
    limits = plate_limits(table, PlatePercentiles(), seed=0, instances=Fields())
    about = {"classes": ["bright", "plain"], "channels": ("a", "b"), "limits": limits, "instances": Fields()}
    parts = {"encoder": partial(KrausNet, shrink=1, pooled=False), "pooling": NoisyAnd, "trainer": trainer_of(12)}
    data = partial(PlateDataModule, cells_per_bag=2, patch_px=96, bags_per_batch=3)
    folder = tmp_path_factory.mktemp("field model")
    return recipe.fit(table, table.iloc[:0], folder, data=data, **about, **parts), limits


def test_a_network_of_fields_finds_the_class_and_says_where(fields, trained_on_fields):
    table, images = fields
    folder, limits = trained_on_fields
    model, card = load_model(folder)
    assert (card["crop_px"], card["instances"]["_target_"]) == (None, "cellpheno.training.instances.Fields")
    assert card["instance_link"] == "sigmoid"
    predictions, positions = predict_all(model, card, table, limits=limits)
    assert predictions["pred"].tolist() == table["label"].tolist()
    assert len(positions) == len(table) * len(SITES) * 10 * 6  # 150 x 96 pixels, a position every 16
    np.testing.assert_allclose(positions.groupby("Metadata_Well")["weight"].sum(), 1, atol=1e-5)
    here = positions[(positions["Metadata_Well"] == "B03") & (positions["Metadata_Site"] == SITES[0])]
    seen = class_map(here, ["bright", "plain"], (HEIGHT, WIDTH), card["instance_link"])[0]
    inside = images["B03", SITES[0]][1] > 200
    assert seen.shape == inside.shape
    assert seen[inside].mean() > seen[~inside].mean()


def test_a_well_of_fields_is_predicted_alike_whole_and_in_pieces(fields, trained_on_fields):
    table, _ = fields
    folder, limits = trained_on_fields
    model, card = load_model(folder)
    pixels = Fields().pixels(table["place"][1], slice(0, 2))
    with torch.no_grad():
        whole = model(PlatePercentiles()(pixels, limits["P1"]), torch.zeros(2, dtype=torch.long), 1)
    model.piece = 1
    alone = predict_wells(model, card, table.iloc[[1]], limits=limits)
    assert alone["logit_bright"].item() == pytest.approx(whole.logits[0, 0].item(), abs=1e-4)


def test_grey_levels_of_tiles_are_those_of_the_whole_fields(fields):
    place = fields[0]["place"].iloc[0]
    np.testing.assert_array_equal(Tiles(tile_px=32).sample(place), Fields().sample(place))


def test_features_made_in_two_ways_on_one_plate_are_refused(fields, tmp_path):
    plate = SimpleNamespace(folder=tmp_path, path=tmp_path / "P1.zarr")
    keys = np.zeros(1, np.int32)
    for well, names in (("A01", ["x_0"]), ("A02", ["x_0"]), ("A03", ["y_0"])):
        crops = Crops(np.zeros((1, 1, 1, 1), np.float32), keys, keys, keys > 0)
        write_crops(tmp_path / "features/default" / f"{well}.zarr", crops, features=names)
    with pytest.raises(InputError, match="A03 were made otherwise than A01"):
        Embedded().optics(plate)
