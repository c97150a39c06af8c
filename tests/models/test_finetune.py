import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from cellpheno.models.encoders import DeepLoc, SmallResNet
from cellpheno.models.finetune import first_layers, freeze, parameter_groups, start_from


class Net(pl.LightningModule):
    """Two normalised layers, a dropout and a head, trained on noise."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
        )
        self.head = nn.Linear(8, 2)

    def training_step(self, batch, batch_idx):
        return self.head(self.encoder(batch)).square().mean()

    def validation_step(self, batch, batch_idx):
        self.training_step(batch, batch_idx)

    def configure_optimizers(self):
        return torch.optim.SGD(parameter_groups(self, {}), lr=0.1)


def trained(net):
    return [name for name, weight in net.named_parameters() if weight.requires_grad]


@pytest.mark.parametrize(
    ("layers", "still"),
    [
        ("encoder", range(6)),
        ("encoder.0-1", [0, 1]),
        (["encoder.0", "encoder.4"], [0, 4]),
        (1, [0, 1, 2]),
        (2, range(6)),
        (0, []),
        ([], []),
    ],
)
def test_frozen_layers_neither_learn_nor_count(layers, still):
    net = Net()
    freeze(net, layers)
    names = [name for name, _ in net.named_parameters()]
    assert trained(net) == [name for name in names if not any(name.startswith(f"encoder.{i}.") for i in still)]
    assert [i for i, layer in enumerate(net.encoder) if not layer.training] == list(still)


@pytest.mark.filterwarnings(r"ignore:.*does not have many workers")
@pytest.mark.filterwarnings(r"ignore:.*isinstance\(treespec, LeafSpec\)")
@pytest.mark.filterwarnings(r"ignore:Found 3 module\(s\) in eval mode")
def test_frozen_layers_stay_bitwise_through_training_and_validation():
    torch.manual_seed(0)
    net = Net()
    freeze(net, "encoder.0-2")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    trainer = pl.Trainer(
        **{"accelerator": "cpu", "devices": 1, "max_epochs": 2, "logger": False, "enable_checkpointing": False},
        **{"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 1},
    )
    data = DataLoader(torch.randn(16, 4), batch_size=8)
    trainer.fit(net, data, data)
    same = {name for name, value in net.state_dict().items() if torch.equal(value, before[name])}
    assert same == {name for name in before if name.startswith(("encoder.0.", "encoder.1."))}


def test_depth_counts_layers_with_weights_in_the_order_of_the_data():
    deeploc = DeepLoc(n_channels=1, size=16)
    assert first_layers(deeploc, 8) == [f"convolutions.{i}" for i in range(28 - 1)]
    assert first_layers(deeploc, 9)[-3:] == ["full.0", "full.1", "full.2"]
    assert len(first_layers(deeploc, 10)) == len(first_layers(deeploc, 8)) + 6
    with pytest.raises(ValueError, match="11 layers; DeepLoc has 10 layers with weights"):
        freeze(deeploc, 11)
    with pytest.raises(ValueError, match="-1 layers"):
        freeze(deeploc, -1)


def test_names_that_fit_nothing_are_refused():
    for call in (lambda: freeze(Net(), "encoder.7-9"), lambda: parameter_groups(Net(), {"encoder.7-9": 0.1})):
        with pytest.raises(ValueError, match=r"no layer 'encoder.7-9' in Net, which has encoder, head"):
            call()


def test_each_layer_has_the_rate_of_the_most_exact_name():
    net = Net()
    freeze(net, "encoder.1")
    optimizer = torch.optim.SGD(parameter_groups(net, {"encoder.0-1": 0.01, "encoder": 0.1}), lr=1.0)
    rates = {weight: group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    found = {name: rates[weight] for name, weight in net.named_parameters() if weight in rates}
    assert found == {
        **{"encoder.0.weight": 0.01, "encoder.0.bias": 0.01, "encoder.3.weight": 0.1, "encoder.3.bias": 0.1},
        **{"encoder.4.weight": 0.1, "encoder.4.bias": 0.1, "head.weight": 1.0, "head.bias": 1.0},
    }


def test_without_rates_there_is_one_group_of_all_that_is_trained():
    net = Net()
    (group,) = parameter_groups(net, {})
    assert len(group["params"]) == len(list(net.parameters()))


def test_a_trained_network_starts_another_with_its_own_weights():
    old, new = SmallResNet(2, width=8, depth=1), SmallResNet(2, width=8, depth=1)
    old(torch.rand(4, 2, 16, 16))  # moves the running averages
    start_from(new, old.state_dict())
    assert all(torch.equal(value, old.state_dict()[name]) for name, value in new.state_dict().items())


def test_a_trained_network_starts_one_for_more_channels():
    old, new = SmallResNet(2, width=8, depth=1).eval(), SmallResNet(4, width=8, depth=1).eval()
    start_from(new, old.state_dict())
    crops = torch.rand(3, 2, 16, 16)
    torch.testing.assert_close(new(crops.repeat_interleave(2, dim=1)), old(crops), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("other", [SmallResNet(2, width=16, depth=1), DeepLoc(2, size=16)], ids=["wider", "another"])
def test_weights_of_another_network_are_refused(other):
    with pytest.raises(RuntimeError, match=r"stem\.0\.weight"):
        start_from(SmallResNet(2, width=8, depth=1), other.state_dict())
