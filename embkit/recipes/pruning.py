"""Which of an encoder's blocks are kept; the stand-alone script has these functions, too."""

from typing import Any


def blocks_of(network: Any) -> Any:
    """A network's stack of blocks: the outermost list of as many as its settings count; or none."""
    counted = getattr(getattr(network, "config", None), "num_hidden_layers", None)
    for module in getattr(network, "modules", list)():
        if type(module).__name__ == "ModuleList" and len(module) == counted:
            return module
    return []


def spaced(kept: int, layers: int) -> list[int]:
    """Which of so many layers are kept: the first, the last, and evenly between."""
    return [round(i * (layers - 1) / max(1, kept - 1)) for i in range(kept)]


def keep_blocks(network: Any, kept: int) -> None:
    """Takes blocks out of a network's stack, in place; its settings count those that are left."""
    blocks = blocks_of(network)
    many = len(blocks)
    places = spaced(kept, many)
    for i in sorted(set(range(many)) - set(places), reverse=True):
        del blocks[i]
    # the count, under any of its names, and what is listed layer by layer
    for config in [module.config for module in network.modules() if hasattr(module, "config")]:
        for name, each in list(vars(config).items()):
            if "layer" in name and isinstance(each, list) and len(each) == many:
                setattr(config, name, [each[i] for i in places])
        config.num_hidden_layers = kept
