"""A device of torch's named ``mirror``, for machines that have a CPU alone: the CPU computes what it seems to compute.

As a GPU does, it refuses tensors of two devices in one operation, and gives no array of what lies on it. Torch keeps a
device for the whole process, so what uses this one runs in a process of its own, such as a step of the command line:
``python tests/mirror_device.py predict device=mirror ...``.
"""

import sys

import torch
from torch.utils._pytree import tree_map, tree_map_only
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from cellpheno.cli import main

aten = torch.ops.aten
MOVES = (aten._to_copy.default, aten.copy_.default)  # what may name two devices


class Mirrored(torch.Tensor):
    """A tensor on the device; its values are on the CPU, in ``held``."""

    def __new__(cls, values):
        about = {"strides": values.stride(), "storage_offset": values.storage_offset(), "dtype": values.dtype}
        with torch.inference_mode(False):  # else it could be no view of a network's weights
            return torch.Tensor._make_wrapper_subclass(cls, values.shape, **about, device=torch.device("mirror", 0))

    def __init__(self, values):
        self.held = values

    def tolist(self):  # which torch refuses to classes derived from its tensors
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        known = {}

        def held_by(one):
            if isinstance(one, Mirrored):
                known[id(one.held)] = one
                return one.held
            if isinstance(one, torch.Tensor) and one.ndim and operation not in MOVES:
                raise RuntimeError(f"{operation}: expected all tensors to be on the same device")
            return torch.device("cpu") if isinstance(one, torch.device) else one

        own_args, own_kwargs = tree_map(held_by, (args, kwargs or {}))
        found = operation(*own_args, **own_kwargs)
        where = args[0].device if operation is aten.copy_.default else (kwargs or {}).get("device")
        if where is not None and where.type == "cpu":
            return found
        return tree_map_only(torch.Tensor, lambda one: known[id(one)] if id(one) in known else cls(one), found)


class Backend(_DummyBackendModule):
    """What torch asks of a device beside its tensors; this one draws no numbers of its own."""

    def get_amp_supported_dtype(self):
        return [torch.float16, torch.bfloat16]

    def get_rng_state(self, device):
        return torch.zeros(1)

    def set_rng_state(self, state, device):
        pass


def empty(size, *, dtype=None, memory_format=None, **_):
    return Mirrored(torch.empty(size, dtype=dtype, memory_format=memory_format or torch.contiguous_format))


def empty_strided(size, stride, *, dtype=None, **_):
    return Mirrored(torch.empty_strided(size, stride, dtype=dtype))


def copy(source, target, *_):
    target.held.copy_(source)
    return target


def install():
    """Make the device known to torch, for the rest of the process; what is returned must live as long."""
    _setup_privateuseone_for_python_backend("mirror", Backend())
    library = torch.library.Library("aten", "IMPL")
    for name, operation in {"empty.memory_format": empty, "empty_strided": empty_strided, "_copy_from": copy}.items():
        library.impl(name, operation, "PrivateUse1")
    return library


if __name__ == "__main__":
    kept = install()
    sys.exit(main())
