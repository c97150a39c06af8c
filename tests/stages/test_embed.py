"""Crops to cached features by the command line: the same cells in the same order, to the same bytes."""

import shutil
from functools import partial

import numpy as np
import pytest
import torch

from cellpheno.batch.ledger import read_record
from cellpheno.components import describe
from cellpheno.images.crops import Crops, n_crops, read_attributes, read_crops, write_crops
from cellpheno.models.attention import GatedAttention
from cellpheno.models.efficientnet import EfficientNetLite0
from cellpheno.models.encoders import Features, SmallResNet
from cellpheno.models.mil import MILClassifier, build_classifier
from cellpheno.models.transforms import PerCrop, PlatePercentiles
from cellpheno.training.checkpoint import save_model, with_defaults
from cellpheno.training.embed import embed_well
from cellpheno.training.instances import Cells

EMBED = ["plate=SIM1.zarr", "threads=1", "encoder@embed_encoder=efficientnet_lite0"]


@pytest.fixture(scope="module")
def embedded(cropped_screen, tmp_path_factory):
    screen = type(cropped_screen)(tmp_path_factory.mktemp("embedded") / "screen")
    shutil.copytree(cropped_screen.folder, screen.folder)
    assert screen("embed", *EMBED) == 0
    return screen


def wells(screen):
    return sorted((screen.folder / "SIM1/crops").glob("*.zarr"))


def test_features_are_those_of_the_encoder_in_the_order_of_the_crops(embedded):
    encoder, stretch = EfficientNetLite0(n_channels=3).eval(), PlatePercentiles()
    assert sum(n_crops(path) for path in wells(embedded)) > 40
    for path in wells(embedded)[:3]:
        crops, features = read_crops(path), read_crops(embedded.folder / "SIM1/features/default" / path.name)
        about = read_attributes(embedded.folder / "SIM1/features/default" / path.name)
        with torch.no_grad():
            wanted = encoder(stretch(crops.pixels, np.array(about["limits"], np.float32)))
        assert features.pixels.shape == (len(crops.pixels), 1280, 1, 1)
        assert features.pixels[:, :, 0, 0] == pytest.approx(wanted.numpy(), abs=1e-4)
        for name in ("site", "object_number", "at_border"):
            assert np.array_equal(getattr(features, name), getattr(crops, name))
        assert (about["plate"], about["well"], about["channels"]) == ("SIM1", path.stem, ["DNA", "CellMask", "Protein"])
        assert about["encoder"]["_target_"] == "cellpheno.models.efficientnet.EfficientNetLite0"


def test_pieces_do_not_change_features_and_an_empty_well_has_their_number(embedded, tmp_path):
    path = wells(embedded)[0]
    encoder = SmallResNet(n_channels=3, width=8, depth=1)
    whole, pieces = (embed_well(encoder, Cells(), path, "SIM1", PerCrop(), {}, piece=piece) for piece in (256, 2))
    assert pieces.pixels == pytest.approx(whole.pixels, abs=1e-5)
    write_crops(tmp_path / "empty", Crops(*(part[:0] for part in read_crops(path))))
    assert embed_well(encoder, Cells(), tmp_path / "empty", "SIM1", PerCrop(), {}).pixels.shape == (0, 32, 1, 1)


def test_done_wells_are_skipped_and_a_lost_one_comes_back_to_the_same_bytes(embedded, fresh_copy):
    screen = fresh_copy(embedded)
    before = screen.hashes()
    lost = screen.folder / "SIM1/features/default" / wells(screen)[2].name
    shutil.rmtree(lost)
    assert screen("embed", *EMBED) == 0
    assert screen.hashes() == before


def test_embeddings_stand_side_by_side(embedded, fresh_copy):
    screen = fresh_copy(embedded)
    before = screen.hashes()
    well = wells(screen)[0].stem
    assert (
        screen("embed", *EMBED, "embedding=per-crop", "normalization@embed_normalization=per_crop", f"wells=[{well}]")
        == 0
    )
    record = read_record(screen.folder / "SIM1", well)
    assert record["embed_default"]["status"] == record["embed_per-crop"]["status"] == "done"
    first, second = (
        read_crops(screen.folder / f"SIM1/features/{name}/{well}.zarr").pixels for name in ("default", "per-crop")
    )
    assert first.shape == second.shape
    assert not np.allclose(first, second)
    after = screen.hashes()
    assert {name: after[name] for name in before if "features/default" in name} == {
        name: value for name, value in before.items() if "features/default" in name
    }


def test_the_encoder_of_a_trained_model(embedded, fresh_copy):
    screen = fresh_copy(embedded)
    torch.manual_seed(3)
    encoder, pooling = partial(SmallResNet, width=8, depth=1), GatedAttention
    model = build_classifier(MILClassifier, encoder, pooling, classes=["a", "b"], n_channels=3).eval()
    well = wells(screen)[0]
    crops = read_crops(well)
    parts = {"model": MILClassifier, "encoder": encoder, "pooling": pooling, "normalization": PerCrop}
    card = {
        **{"classes": ["a", "b"], "class_counts": {"a": 1, "b": 1}, "channels": ["DNA", "CellMask", "Protein"]},
        **{"pixel_size_um": 0.6, "crop_px": crops.pixels.shape[-1], "dtype": str(crops.pixels.dtype)},
        **{name: describe(with_defaults(part)) for name, part in parts.items()},
    }
    save_model(screen.folder / "model", model, card)
    assert screen("embed", "plate=SIM1.zarr", "threads=1", "start=model", "embedding=own", f"wells=[{well.stem}]") == 0
    found = read_crops(screen.folder / f"SIM1/features/own/{well.name}").pixels
    assert found == pytest.approx(embed_well(model.encoder, Cells(), well, "SIM1", PerCrop(), {}).pixels, abs=1e-5)
    save_model(screen.folder / "other", model, card | {"channels": ["DNA", "CellMask", "ER"]})
    assert screen("embed", "plate=SIM1.zarr", "start=other") == 2


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("encoder@embed_encoder=small_resnet", "random"),
        ("embed_encoder.pooled=false", "give embed_encoder.pooled=true"),
        ("embedding=a/b", "letters, digits"),
        ("start=nowhere", "no such file"),
    ],
)
def test_refused(embedded, capsys, override, said):
    before = embedded.hashes()
    assert embedded("embed", *EMBED, override) == 2
    assert said in capsys.readouterr().err
    assert embedded.hashes() == before


def test_damaged_crops_set_the_well_aside(embedded, fresh_copy):
    screen = fresh_copy(embedded)
    well = wells(screen)[0]
    part = next(path for path in (well / "pixels/c").rglob("*") if path.is_file())
    part.write_bytes(b"")
    assert screen("embed", *EMBED, "normalization@embed_normalization=per_crop", f"wells=[{well.stem}]") == 3
    entry = read_record(screen.folder / "SIM1", well.stem)["embed_default"]
    assert entry["status"] == "quarantined"
    assert "crop the well again" in entry["messages"][0]


def test_cached_features_are_scaled_to_the_training_batches_and_only_to_them():
    torch.manual_seed(0)
    batches = [3 + 2 * torch.randn(64, 5, 1, 1) for _ in range(50)]
    encoder = Features(n_channels=5)
    for batch in batches:
        encoder(batch)
    encoder.eval()
    first = encoder(batches[0])
    encoder(100 * batches[1])
    assert torch.equal(encoder(batches[0]), first)
    flat = torch.cat(batches).flatten(1)
    wanted = (batches[0].flatten(1) - flat.mean(0)) / flat.std(0)
    assert first.numpy() == pytest.approx(wanted.numpy(), abs=0.02)
    with pytest.raises(ValueError, match="crops of 8 x 8"):
        encoder(torch.zeros(2, 5, 8, 8))
