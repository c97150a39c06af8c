"""The multiple-instance classifier: encoder, head and pooling, trained on the labels of whole wells.

Axes: N instances, B bags, K classes, d features, c y x of a crop or of a field.

The instances are cells, an encoder's features of a crop each; or, with an encoder that keeps a map of features
(``pooled=False``), all positions of whole fields: then the head is the map's last 1 x 1 convolution, the instance
logits are class maps, and the same poolings take together the positions of all fields of a well.

A pooling of scores has the head before it: instance features -> instance logits -> pooled class scores. Their P_k,
one yes-or-no question a class, do not sum to one; a linear layer on them makes the bag's logits, and both are trained,
after Kraus et al. 2016: ``loss = sum_k BCE(P_k, t_k) + CE(softmax(W s + c), t)``. There the layer sees P, here its
logit s, in which a rare class differs from an absent one; W starts as the identity.

With several classes a well (``multilabel``) the bag's logits are yes-or-no questions too, and so is their loss:
``sum_k BCE(sigmoid(logit_k), t_k)``, beside that of P_k where the pooling is one of scores.

A pooling of features has the head behind it: instance features -> bag features -> bag logits. The head is linear and
the weights of a bag sum to one, so a bag's logit is the weighted mean of its instances' logits: what the head says of
one cell and its attention together are the cell's exact share in the verdict.
"""

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from typing import Annotated, Any, NamedTuple, Protocol, Self, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from cellpheno.bounds import Range
from cellpheno.models.dropout import Dropout, seed_device
from cellpheno.models.finetune import freeze, parameter_groups
from cellpheno.models.losses import balanced_accuracy, one_class_loss, several_classes_loss
from cellpheno.models.segments import BagSums, merge, share
from cellpheno.models.transforms import eight_orientations

log = logging.getLogger("cellpheno")


class BagOutput(NamedTuple):
    """What a classifier says of a batch of bags."""

    logits: Tensor  # (B, K); prob_<class> is their softmax, or their sigmoid with several classes a well
    instance_logits: Tensor  # (N, K)
    bag_scores: Tensor | None  # (B, K), logits of the pooled P_k of a pooling of scores; score_<class> is their sigmoid


class RaggedBatch(Protocol):
    """What a step needs of a batch."""

    @property
    def instances(self) -> Tensor: ...  # noqa: D102  (N, c, y, x)
    @property
    def bag(self) -> Tensor: ...  # noqa: D102  (N,)
    @property
    def labels(self) -> Tensor: ...  # noqa: D102  (B,), or (B, K) of 0 and 1


class MILClassifier(pl.LightningModule):
    """Multiple-instance classifier of bags of cell crops.

    Parameters
    ----------
    encoder : nn.Module
        Pictures (N, c, y, x) to features (N, d), or to maps of features (N, d, y', x'); has ``n_features`` = d.
    pooling : nn.Module
        Has ``pools``, ``"scores"``, ``"features"`` or ``"logits"`` (see `cellpheno.models.pooling`, `cell_pooling`).
    classes : sequence of str
        In the order of the logits.
    optimizer : callable, optional
        Parameters -> optimizer. Needed for training only, as the next four.
    scheduler : callable, optional
        (optimizer, n_steps) -> learning-rate schedule, stepped after every batch.
    augment : callable, optional
        (crops, generator) -> crops, in training only.
    class_weights : Tensor of shape (K,), optional
        Weights of the loss; (2, K) with several classes a well: of no and of yes.
    seed : int
        Of the augmentation.
    multilabel : bool
        A bag may have several classes, or none.
    label_smoothing : float
        0 to 1: this share of the truth is spread evenly over the classes, or over yes and no.
    dropout : float
        Of the features before the head.
    piece : int
        Pictures that pass the encoder at once in evaluation.
    channels_last : bool
        Memory layout of the encoder; faster on CPUs and no change of the result beyond rounding.
    frozen : int, str or sequence of str
        Layers that keep their weights (`cellpheno.models.finetune.freeze`), such as ``encoder.blocks.0-4``, or a depth.
    rates : mapping of str to float, optional
        Learning rates of layers of their own, such as ``{"encoder": 0.0002}``.
    orientations : bool
        In evaluation, features are the mean over an instance's eight orientations, at eight times the work.

    References
    ----------
    Kraus, Ba, Frey 2016, doi:10.1093/bioinformatics/btw252; Ilse, Tomczak, Welling 2018, doi:10.48550/arXiv.1802.04712

    Examples
    --------
    >>> from cellpheno.models.encoders import SmallResNet
    >>> from cellpheno.models.attention import GatedAttention
    >>> encoder = SmallResNet(n_channels=2, width=8, depth=1)
    >>> model = MILClassifier(encoder, GatedAttention(encoder.n_features), ["control", "treated"])
    >>> crops, bag = torch.zeros(3, 2, 16, 16), torch.tensor([0, 0, 1])
    >>> out = model(crops, bag, 2)
    >>> out.logits.shape, model.weights(model.embed(crops), out, bag).detach().numpy().round(4).tolist()
    (torch.Size([2, 2]), [0.5, 0.5, 1.0])
    """

    class_weights: Tensor | None

    def __init__(
        self,
        encoder: nn.Module,
        pooling: nn.Module,
        classes: Sequence[str],
        *,
        optimizer: Callable[..., torch.optim.Optimizer] | None = None,
        scheduler: Callable[..., torch.optim.lr_scheduler.LRScheduler] | None = None,
        augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
        class_weights: Tensor | None = None,
        seed: int = 0,
        multilabel: bool = False,
        label_smoothing: Annotated[float, Range(0, 1)] = 0.0,
        dropout: Annotated[float, Range(0, 1, open_high=True)] = 0.0,
        piece: Annotated[int, Range(1)] = 256,
        channels_last: bool = True,
        frozen: int | str | Sequence[str] = (),
        rates: Mapping[str, float] | None = None,
        orientations: bool = False,
    ) -> None:
        super().__init__()
        if len(classes) < 2 or len(set(classes)) < len(classes):
            raise ValueError(f"classes {list(classes)}: wanted two or more different names")
        if getattr(pooling, "pools", None) not in ("scores", "features", "logits"):
            raise TypeError(f"{type(pooling).__name__} is no pooling: 'pools' must be 'scores', 'features' or 'logits'")
        if orientations and not getattr(encoder, "pooled", True):
            raise ValueError("orientations=true averages features, not maps of them: give encoder.pooled=true")
        if multilabel and getattr(pooling, "exclusive", False):
            raise ValueError("this pooling gives each cell one class; with several classes a well set another")
        if slow := [f"{name}: {rate}" for name, rate in (rates or {}).items() if not 0 <= rate < float("inf")]:
            raise ValueError(f"learning rates {', '.join(slow)}: wanted numbers from 0")
        self.classes = tuple(classes)
        n_classes = len(self.classes)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.encoder = encoder.to(memory_format=layout)  # type: ignore[call-overload]
        self.pooling = pooling
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(cast(int, encoder.n_features), n_classes)
        if start := getattr(pooling, "start_logit", 0.0):  # where the pooling wants instances to begin
            nn.init.constant_(self.head.bias, start)
        self.bag_head = nn.Linear(n_classes, n_classes) if pooling.pools == "scores" else None
        if self.bag_head is not None:
            nn.init.eye_(self.bag_head.weight)  # at the start each score speaks for its own class
            nn.init.zeros_(self.bag_head.bias)
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.optimizer, self.scheduler, self.augment = optimizer, scheduler, augment
        self.seed, self.label_smoothing, self.piece, self.layout = seed, label_smoothing, piece, layout
        self.multilabel = multilabel
        self._validated: list[tuple[Tensor, Tensor]] = []  # (labels, predicted) of this epoch's validation bags
        self._gathered = False  # whether it was said that a pooling cannot take pieces
        self.rates, self.orientations, self.frozen = dict(rates or {}), orientations, frozen
        freeze(self, frozen)

    def train(self, mode: bool = True) -> Self:
        """Let all layers train but those that are frozen, whose normalisation stays as it is."""
        super().train(mode)
        freeze(self, self.frozen)
        return self

    def forward(self, instances: Tensor, bag: Tensor, n_bags: int) -> BagOutput:
        """Pictures (N, c, y, x) of bags ``bag`` (N,) to what is said of the bags and of each instance."""
        features, bag = flatten_positions(self.embed(instances), bag)
        return self.classify(features, bag, n_bags)

    def embed(self, instances: Tensor) -> Tensor:
        """Pictures (N, c, y, x) to features (N, d), or maps (N, d, y', x'), in pieces where nothing is trained."""
        instances = instances.contiguous(memory_format=self.layout)
        if self.training:
            return cast(Tensor, self.encoder(instances))
        return torch.cat([self._views(piece) for piece in torch.split(instances, self.piece)])

    def _views(self, instances: Tensor) -> Tensor:
        """Features (N, d) in evaluation: of the instances as they are, or the mean over their orientations."""
        if not self.orientations:
            return cast(Tensor, self.encoder(instances))
        views = [self.encoder(view.contiguous(memory_format=self.layout)) for view in eight_orientations(instances)]
        return torch.stack(views).mean(0)

    def classify(self, features: Tensor, bag: Tensor, n_bags: int) -> BagOutput:
        """Features (N, d) of bags ``bag`` (N,) to the bags' logits."""
        features = self.dropout(features)
        instance_logits = self.head(features)  # (N, K)
        if self.pooling.pools == "features":
            return BagOutput(self.head(self.pooling(features, bag, n_bags)), instance_logits, None)
        return self._pool_logits(instance_logits, bag, n_bags)

    def _pool_logits(self, instance_logits: Tensor, bag: Tensor, n_bags: int) -> BagOutput:
        pooled = self.pooling(instance_logits, bag, n_bags)  # (B, K)
        if self.bag_head is None:
            return BagOutput(pooled, instance_logits, None)
        return BagOutput(self.bag_head(pooled), instance_logits, pooled)

    def classify_pieces(self, pieces: Iterable[Tensor]) -> tuple[BagOutput, Tensor]:
        """Features (n, d) of one bag, piece by piece, to what is said of it and the weight (N,) of each instance.

        Of a piece only logits and weights are kept, so the features of a bag need not fit into memory. A pooling of
        features without ``finish``, which attends between instances, gets them all at once, and that is said once.
        """
        if self.pooling.pools != "features":
            instance_logits = torch.cat(list(map(self.head, pieces)))  # (N, K)
            bag = _one_bag(instance_logits)
            out = self._pool_logits(instance_logits, bag, 1)
            return out, self._weights_of_logits(out, bag)
        if not hasattr(self.pooling, "finish"):
            features = torch.cat(list(pieces))  # (N, d)
            self._say_gathered(features)
            out = self.classify(features, _one_bag(features), 1)
            return out, self.weights(features, out, _one_bag(features))
        logits, weights, sums = zip(*map(self._piece_of_bag, pieces), strict=True)
        whole = reduce(merge, sums)
        out = BagOutput(self.head(cast(Any, self.pooling).finish(whole)), torch.cat(logits), None)
        return out, torch.cat([own * share(part, whole)[0] for own, part in zip(weights, sums, strict=True)])

    def _say_gathered(self, features: Tensor) -> None:
        if not self._gathered:
            told = "%s attends between instances: all features of a well are in memory; of the first %d x %d, %.1f MB"
            log.info(told, type(self.pooling).__name__, *features.shape, features.nbytes / 1e6)
            self._gathered = True

    def _piece_of_bag(self, features: Tensor) -> tuple[Tensor, Tensor, BagSums]:
        """Instance logits (n, K), weights (n,) within the piece, and running sums of a pooling of features."""
        pooling, bag = cast(Any, self.pooling), _one_bag(features)
        return self.head(features), pooling.weights(features, bag, 1), pooling.collect(features, bag, 1)

    def weights(self, features: Tensor, out: BagOutput, bag: Tensor) -> Tensor:
        """Weight (N,) of each instance in its bag, from features (N, d) and what was said of them; 1 in all a bag.

        Of a pooling of features it is the attention; of a pooling of scores the instance's share in the score of the
        class that the bag is taken for.
        """
        if self.pooling.pools == "features":
            return cast(Tensor, cast(Any, self.pooling).weights(features, bag, len(out.logits)))
        return self._weights_of_logits(out, bag)

    def _weights_of_logits(self, out: BagOutput, bag: Tensor) -> Tensor:
        weigh = cast(Callable[..., Tensor], self.pooling.weights)
        shares = weigh(out.instance_logits, bag, len(out.logits))  # (N, K), or (N,) where all instances count alike
        if shares.ndim == 1:
            return shares
        return shares.gather(1, out.logits.argmax(1)[bag][:, None])[:, 0]

    def loss(self, out: BagOutput, labels: Tensor) -> Tensor:
        """Mean loss of a batch with labels (B,), or (B, K) with several classes a bag."""
        own = several_classes_loss if self.multilabel else one_class_loss
        return own(out.logits, out.bag_scores, labels, self.class_weights, self.label_smoothing)

    def training_step(self, batch: RaggedBatch, batch_idx: int) -> Tensor | None:
        """Loss of one batch; its augmentation and dropout depend on the seed and the number of batches before."""
        instances, n_bags = batch.instances, len(batch.labels)
        if len(instances) == 1 and any(isinstance(layer, nn.BatchNorm1d) for layer in self.encoder.modules()):
            return None  # one instance has no spread to be scaled by
        # of the batch and not of the step: several batches make one step where their gradients accumulate
        batch_seed = self.seed * 1_000_003 + self.trainer.fit_loop.total_batch_idx
        seed_device(instances.device, batch_seed)
        if self.augment is not None:
            instances = self.augment(instances, torch.Generator(instances.device).manual_seed(batch_seed))
        loss = self.loss(self(instances, batch.bag, n_bags), batch.labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=n_bags)
        return loss

    def validation_step(self, batch: RaggedBatch, batch_idx: int) -> None:
        """Log the loss of whole bags and remember their predictions."""
        out = self(batch.instances, batch.bag, len(batch.labels))
        loss = self.loss(out, batch.labels)
        self.log("val_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch.labels))
        predicted = (out.logits > 0).to(batch.labels.dtype) if self.multilabel else out.logits.argmax(1)
        self._validated.append((batch.labels, predicted))

    def on_validation_epoch_end(self) -> None:
        """Log the balanced accuracy over all validation bags, with several classes a bag its mean over the classes."""
        labels, predicted = (torch.cat(parts) for parts in zip(*self._validated, strict=True))
        questions = zip(labels.T, predicted.T, strict=True) if self.multilabel else [(labels, predicted)]
        self.log("val_balanced_accuracy", torch.stack([balanced_accuracy(*one) for one in questions]).mean())
        self._validated.clear()

    def configure_optimizers(self) -> Any:
        """Optimizer, and schedule over all steps of the run."""
        if self.optimizer is None:
            raise ValueError("this classifier has no optimizer and cannot be trained; give optimizer=")
        optimizer = self.optimizer(parameter_groups(self, self.rates))
        if self.scheduler is None:
            return optimizer
        schedule = self.scheduler(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _one_bag(instances: Tensor) -> Tensor:
    return torch.zeros(len(instances), dtype=torch.long, device=instances.device)


def flatten_positions(features: Tensor, bag: Tensor) -> tuple[Tensor, Tensor]:
    """Take the positions of maps as instances, row by row; features that are no maps stay as they are.

    Parameters
    ----------
    features : Tensor of shape (N, d) or (N, d, y, x)
    bag : Tensor of shape (N,)

    Returns
    -------
    features : Tensor of shape (N, d) or (N * y * x, d)
    bag : Tensor of shape (N,) or (N * y * x,)

    Examples
    --------
    >>> features, bag = flatten_positions(torch.zeros(2, 8, 3, 4), torch.tensor([0, 1]))
    >>> features.shape, bag.bincount().tolist()
    (torch.Size([24, 8]), [12, 12])
    """
    if features.ndim == 2:
        return features, bag
    positions = features.shape[2] * features.shape[3]
    return features.permute(0, 2, 3, 1).flatten(0, 2), bag.repeat_interleave(positions)


def build_classifier(
    model: Callable[..., MILClassifier],
    encoder: Callable[..., nn.Module],
    pooling: Callable[..., nn.Module],
    *,
    classes: Sequence[str],
    n_channels: int,
    **training: Any,
) -> MILClassifier:
    """Put a classifier together, with the sizes that only the data know.

    Parameters
    ----------
    model, encoder, pooling : callable
        As a config gives them: classes with their own knobs filled in.
    classes : sequence of str
    n_channels : int
    **training
        What `MILClassifier` needs to be trained: optimizer, scheduler, augment, class_weights, seed.

    Examples
    --------
    >>> from cellpheno.models.encoders import SmallResNet
    >>> from cellpheno.models.pooling import NoisyAnd
    >>> build_classifier(MILClassifier, SmallResNet, NoisyAnd, classes=["a", "b"], n_channels=3).head.out_features
    2
    """
    network = encoder(n_channels=n_channels)
    sizes = {"n_classes": len(classes), "n_features": network.n_features}
    wanted = inspect.signature(pooling).parameters
    pool = pooling(**{name: size for name, size in sizes.items() if name in wanted})
    return model(network, pool, classes, **training)
