"""What layers of a network make of rows: one array per layer, and pictures of it in two dimensions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eir_seq.config.latents import LatentsConfig
from eir_seq.errors import Fault, UserError, nearest
from eir_seq.files import csv_text
from eir_seq.machine import writing
from eir_seq.modalities.encoders.backbone import pool_states
from eir_seq.models.output import TokenStates
from eir_seq.outputs.files import FileCell
from eir_seq.training.evaluation import Batch, Evaluation, autocast, evaluation_mode, to_device
from eir_seq.training.folder import write_text
from eir_seq.training.network import Network

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MANY_CLASSES = 20
"""Classes that have their own colours in a picture."""


def check_layers(network: Network, config: LatentsConfig, outputs: Iterable[str], place: str) -> None:
    """Raise `UserError` for layers that the network does not have, and a colour that is no output."""
    known = layers_of(network)
    names = network.input_names
    shared = {
        name for name in names for other in names if other != name and network.encoder(name) is network.encoder(other)
    }
    faults = [
        Fault(f"{place}.layers", f"{name!r} is a layer of an encoder that several inputs share; `embed` writes vectors")
        for name in config.layers
        if name.startswith("inputs.") and name.split(".")[1] in shared
    ]
    faults += [
        Fault(f"{place}.layers", f"there is no layer {name!r}{nearest(name, known)}")
        for name in config.layers
        if name not in known and not faults
    ]
    names = list(outputs)
    if config.colour is not None and config.colour not in names:
        message = f"{config.colour!r} is not an output{nearest(config.colour, names)}"
        faults.append(Fault(f"{place}.colour", message))
    if faults:
        raise UserError(*faults)


def layers_of(network: Network) -> dict[str, nn.Module]:
    """The modules of a network by their public names."""
    sections = ("encoders", "heads", "absence", "state_absence", "")
    return {network.public_name(name): module for name, module in network.named_modules() if name not in sections}


def write_latents(
    network: Network,
    config: LatentsConfig,
    batches: Iterable[Batch],
    folder: Path,
    *,
    device: torch.device,
    precision: str = "32",
    evaluation: Evaluation | None = None,
    colours: Mapping[str, Mapping[str, Sequence[Any]]] | None = None,
    seed: int = 0,
    place: str = "latents",
) -> None:
    """Write ``LAYER.npy`` (rows, size), ``ids.csv`` with the id of each row, and ``LAYER.PLOT.png`` for each plot.

    A layer's states (batch, length, size) are pooled over the tokens of each row; of those (batch, channels, height,
    width) the mean over places is taken. A row that lacks the input that a layer reads has NaN. With `pool: none`
    states stay as they are: ``LAYER.npy`` has those of all tokens, row after row, and ``LAYER.lengths.npy`` how many
    there are of each row.

    Args:
        network: on `device`.
        config: which layers, how pooled and drawn.
        batches: each row once.
        folder: made if absent.
        device: where the network is.
        precision: of the forward pass.
        evaluation: of the same rows, in whose order they are written.
        colours: the columns of the table of predictions by output, in that order.
        seed: of the plots.
        place: the config path of `config`.

    Raises:
        UserError: there is no such layer, or its states are no tensor or do not fit the tokens; a file cannot be
            written.
    """
    check_layers(network, config, network.outputs, place)
    found = _collected(network, config, batches, device, precision, place)
    order = sorted(range(len(found.ids)), key=found.rows.__getitem__)
    ids = [found.ids[index] for index in order]
    assert evaluation is None or evaluation.ids == ids, "the rows are those of the evaluation"
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "ids.csv", csv_text([["id"], *([row_id] for row_id in ids)]))
    coloured, title = _colours(config, colours or {}, len(ids))
    for layer in config.layers:
        given = found.states[layer]
        shape = next((row.shape for row in given if row is not None), (1,))
        absent = np.full((1, *shape[1:]) if config.pool == "none" else shape, np.nan, np.float32)
        states = [absent if (row := given[index]) is None else row for index in order]
        points = np.stack([part.mean(0) for part in states]) if config.pool == "none" else np.stack(states)
        if config.pool == "none":
            _save(folder / f"{layer}.lengths.npy", np.array([len(part) for part in states], np.int64))
            _save(folder / f"{layer}.npy", np.concatenate(states))
        else:
            _save(folder / f"{layer}.npy", points)
        for plot in config.plots:
            known = np.isfinite(points).all(axis=1)
            places, axes = np.full((len(points), 2), np.nan, np.float32), ("", "")
            if known.any():
                places[known], axes = _REDUCTIONS[plot](points[known], seed)
            _save(folder / f"{layer}.{plot}.npy", places)
            _draw(folder / f"{layer}.{plot}.png", f"{layer} ({title})" if title else layer, places, axes, coloured)


class _Collected:
    def __init__(self, layers: Sequence[str]) -> None:
        self.states: dict[str, list[NDArray[np.float32] | None]] = {layer: [] for layer in layers}
        """By layer the states of each row; None if it lacks the input that the layer reads."""
        self.ids: list[str] = []
        self.rows: list[int] = []


def _collected(
    network: Network, config: LatentsConfig, batches: Iterable[Batch], device: torch.device, precision: str, place: str
) -> _Collected:
    """The states of all rows, batch by batch."""
    found, seen, tokens = _Collected(config.layers), dict[str, Any](), dict[str, TokenStates]()
    with (
        evaluation_mode(network),
        _padded(network),
        _watched(network, config.layers, seen, tokens),
        torch.inference_mode(),
        autocast(device, precision),
    ):
        for batch in batches:
            seen.clear()
            tokens.clear()
            on_device = to_device(batch, device)
            network.run(on_device)
            for layer in config.layers:
                module, *within = layer.split(".")
                source = within[0] if module == "inputs" else ""
                there = batch.get("present", {}).get(source, torch.ones(len(batch["id"]), dtype=torch.bool)).tolist()
                read = tokens.get(source)
                value = read if read is not None and len(within) == 1 else seen.get(layer)
                try:
                    states = _pooled(value, None if read is None else read.mask, config.pool) if any(there) else there
                except ValueError as error:
                    raise UserError(Fault(f"{place}.layers", f"{layer} {error}")) from None
                found.states[layer] += [row if is_there else None for row, is_there in zip(states, there, strict=True)]
            found.ids += batch["id"]
            found.rows += batch["row"].tolist()
    return found


def _pooled(value: Any, mask: Tensor | None, pool: str) -> list[NDArray[np.float32]]:
    """What a layer gave for a batch, row by row: (size,), or with `pool` none (tokens, size)."""
    while isinstance(value, tuple | list) and value:
        value = value[0]
    if isinstance(value, Mapping):
        value = next(iter(value.values()), None)
    for name in ("states", "last_hidden_state"):
        value = getattr(value, name, value)
    if value is None:
        raise ValueError("is not called for these rows; name a layer within it or around it")
    if not isinstance(value, Tensor) or value.ndim < 2:
        raise ValueError(f"gives no states of rows (a {type(value).__name__})")
    states = value.float()
    if states.ndim > 3:  # (batch, channels, places ...)
        states = states.flatten(2).transpose(1, 2)
        mask = None
    if states.ndim == 3:
        if mask is None:
            mask = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
        if mask.shape != states.shape[:2]:
            shapes = f"{tuple(states.shape[:2])} where the tokens of the input are {tuple(mask.shape)}"
            raise ValueError(f"gives states of another shape, {shapes}; padding cannot be left out")
        if pool == "none":
            return [row[keep].cpu().numpy() for row, keep in zip(states, mask, strict=True)]
        states = pool_states(states, mask, "avg" if pool == "mean" else pool)  # type: ignore[arg-type]
    rows = states.cpu().numpy()
    return [row[None] for row in rows] if pool == "none" else list(rows)


@contextmanager
def _watched(
    network: Network, layers: Sequence[str], seen: dict[str, Any], tokens: dict[str, TokenStates]
) -> Iterator[None]:
    """Note what layers give, and the token states of each input, which have the mask."""
    known = layers_of(network)

    def note(layer: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _module, _arguments, output: seen.__setitem__(layer, output)

    def reading(name: str, read: Callable[..., TokenStates]) -> Callable[..., TokenStates]:
        def noted(*arguments: Any, **tensors: Any) -> TokenStates:
            tokens[name] = read(*arguments, **tensors)
            return tokens[name]

        return noted

    handles = [known[layer].register_forward_hook(note(layer)) for layer in layers]
    encoders: list[Any] = []
    for name in dict.fromkeys(layer.split(".")[1] for layer in layers if layer.startswith("inputs.")):
        encoder: Any = network.encoder(name)
        if hasattr(encoder, "read"):
            encoder.read = reading(name, encoder.read)
            encoders.append(encoder)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for encoder in encoders:
            del encoder.read


@contextmanager
def _padded(network: Network) -> Iterator[None]:
    """Layers see (batch, length, size): texts are not joined to save padding."""
    backbones = [getattr(module, "backbone", None) for module in network.encoders.values()]
    packed: list[Any] = [backbone for backbone in backbones if getattr(backbone, "pack", False)]
    for backbone in packed:
        backbone.pack = False
    try:
        yield
    finally:
        for backbone in packed:
            backbone.pack = True


def _save(path: Path, array: NDArray[Any]) -> None:
    partial = path.with_name(f".partial-{path.name}")
    with writing(path, partial):
        with partial.open("wb") as file:
            np.save(file, array, allow_pickle=False)
        partial.replace(path)


# ---------------------------------------------------------------------------------------------------------- pictures


def pca(points: NDArray[np.float32], seed: int) -> tuple[NDArray[np.float32], tuple[str, str]]:
    """The first two principal components, (rows, 2), and what the axes are called.

    >>> places, _ = pca(np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]], np.float32), seed=0)
    >>> np.abs(places[:, 0]).round(4).tolist()
    [5.0, 0.0, 5.0]
    """
    x = torch.from_numpy(points)
    size = min(2, *x.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _, _, directions = torch.pca_lowrank(x, q=min(6, *x.shape))
    centred = x - x.mean(dim=0)
    places = centred @ directions[:, :size]
    total = float(centred.square().sum()) or 1.0
    shares = [float(places[:, axis].square().sum()) / total for axis in range(size)]
    if size < 2:
        places, shares = torch.cat((places, torch.zeros(len(x), 2 - size)), dim=1), [*shares, 0.0][:2]
    return places.numpy(), (f"component 1 ({shares[0]:.0%} of the variance)", f"component 2 ({shares[1]:.0%})")


def tsne(points: NDArray[np.float32], seed: int) -> tuple[NDArray[np.float32], tuple[str, str]]:
    """t-SNE in two dimensions, (rows, 2) (van der Maaten and Hinton 2008)."""
    from sklearn.manifold import TSNE

    if len(points) < 4:
        return pca(points, seed)[0], ("component 1 (too few rows for t-SNE)", "component 2")
    perplexity = min(30.0, (len(points) - 1) / 3)
    start: Any = "pca" if points.shape[1] > 1 else "random"
    found = TSNE(2, perplexity=perplexity, init=start, random_state=seed % 2**32).fit_transform(points)
    return np.asarray(found, np.float32), ("t-SNE 1", "t-SNE 2")


_REDUCTIONS = {"pca": pca, "tsne": tsne}


def _colours(
    config: LatentsConfig, columns: Mapping[str, Mapping[str, Sequence[Any]]], rows: int
) -> tuple[list[Any], str]:
    """The value of each row by which it is coloured, and what that is; None and nothing if there is none."""
    for name in columns if config.colour is None else (config.colour,):
        if any(isinstance(value, FileCell) for value in columns.get(name, {}).get(name, ())):
            continue  # there is no colour for an array
        for column, title in ((f"{name}_true", f"{name}"), (name, f"{name}, predicted")):
            if len(values := columns.get(name, {}).get(column, ())) == rows:
                return [None if value == "" else value for value in values], title
    return [None] * rows, ""


def _draw(path: Path, title: str, places: NDArray[np.float32], names: tuple[str, str], colours: Sequence[Any]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5.5), layout="constrained")
    axes: Axes = figure.add_subplot()
    known = np.array([value is not None for value in colours])

    def scatter(chosen: NDArray[np.float32], **options: Any) -> Any:
        return axes.scatter(chosen[:, 0], chosen[:, 1], s=14, linewidths=0, **options)

    scatter(places[~known], color="0.75")
    values = [value for value in colours if value is not None]
    if values and all(isinstance(value, int | float) for value in values):
        figure.colorbar(scatter(places[known], c=[float(value) for value in values]), ax=axes)
    elif values:
        texts = np.array([str(value) for value in values])
        classes, counts = np.unique(texts, return_counts=True)
        shown = [str(name) for name in classes[np.argsort(-counts, kind="stable")][:MANY_CLASSES]]
        for number, name in enumerate(sorted(shown)):
            colour = f"C{number}" if len(shown) <= 10 else _tab20(number)
            scatter(places[known][texts == name], color=colour, label=name)
        if len(others := places[known][~np.isin(texts, shown)]):
            scatter(others, color="0.6", label="others")
        axes.legend(frameon=False, fontsize=8)
    axes.set(title=title, xlabel=names[0], ylabel=names[1])
    partial = path.with_name(f".partial-{path.name}")
    with writing(path, partial):
        figure.savefig(partial, dpi=120, format="png", metadata={"Software": None})
        partial.replace(path)


def _tab20(number: int) -> Any:
    import matplotlib as mpl

    return mpl.colormaps["tab20"](number % 20)
