"""Encoders of pictures: published weights load exactly, others are refused, and what is frozen stays."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.config.schema import DataConfig
from eir_seq.errors import UserError
from eir_seq.modalities.image.config import ImageInputConfig
from eir_seq.modalities.image.encoders.base import ImageEncoder
from eir_seq.modalities.image.encoders.config import ResNetOptions
from eir_seq.modalities.image.encoders.resnet import STAGES, ResNet
from eir_seq.modalities.image.pixels import FittedPixels
from eir_seq.registry import imported
from eir_seq.rows import Rows


def fitted(model: dict[str, Any], **changes: Any) -> FittedPixels:
    given = {"type": "image", "column": "picture", "size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
    config = ImageInputConfig.model_validate({**given, **changes, "model": model})
    return FittedPixels.fit("photo", config, Rows.of({"picture": []}))


def resnet18(weights: Path, **more: Any) -> dict[str, Any]:
    return {"model_type": "resnet", "weights": str(weights), "model_init_config": {"depth": 18}, **more}


def built(model: dict[str, Any], *, pretrained: bool = True, **changes: Any) -> Any:
    return fitted(model, **changes).build_encoder(DataConfig(), pretrained=pretrained)


# ------------------------------------------------------------------------------------------------------------ resnet


def published_shapes(depth: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's state dict, written down from the published tables of the architecture."""
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7)}

    def norm(name: str, size: int) -> None:
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{leaf}"] = (size,)
        shapes[f"{name}.num_batches_tracked"] = ()

    norm("bn1", 64)
    inner = 64
    for stage, blocks in enumerate(STAGES[depth], start=1):
        width = 32 * 2**stage
        out = width if depth < 50 else 4 * width
        kernels = [(width, 3), (width, 3)] if depth < 50 else [(width, 1), (width, 3), (out, 1)]
        for block in range(blocks):
            place, reads = f"layer{stage}.{block}", inner
            for number, (size, side) in enumerate(kernels, start=1):
                shapes[f"{place}.conv{number}.weight"] = (size, reads, side, side)
                norm(f"{place}.bn{number}", size)
                reads = size
            if block == 0 and (stage > 1 or inner != out):
                shapes[f"{place}.downsample.0.weight"] = (out, inner, 1, 1)
                norm(f"{place}.downsample.1", out)
            inner = out
    shapes |= {"fc.weight": (1000, inner), "fc.bias": (1000,)}
    return shapes


def published_resnet(depth: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(depth)
    tensors = {}
    for name, shape in published_shapes(depth).items():
        if name.endswith("tracked"):
            tensors[name] = torch.tensor(7)
            continue
        scale = 0.5 / max(1, torch.Size(shape[1:]).numel()) ** 0.5 if len(shape) > 1 else 0.2
        tensors[name] = torch.randn(shape, generator=random) * scale
        if name.endswith("running_var"):
            tensors[name] = tensors[name].abs() + 0.5
        elif name.endswith(("bn1.weight", "bn2.weight", "bn3.weight", "downsample.1.weight")):
            tensors[name] += 1
    return tensors


def computed(tensors: dict[str, Tensor], depth: int, x: Tensor) -> Tensor:
    """The published computation, step by step: features (batch, channels) behind the mean over places."""

    def norm(name: str, x: Tensor) -> Tensor:
        mean, variance, weight, bias = (
            tensors[f"{name}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=1e-5)

    def convolved(name: str, x: Tensor, stride: int, padding: int) -> Tensor:
        return F.conv2d(x, tensors[f"{name}.weight"], stride=stride, padding=padding)

    x = F.relu(norm("bn1", convolved("conv1", x, 2, 3)))
    x = F.max_pool2d(x, 3, 2, 1)
    for stage, blocks in enumerate(STAGES[depth], start=1):
        for block in range(blocks):
            place, stride, shortcut = f"layer{stage}.{block}", 2 if block == 0 and stage > 1 else 1, x
            if f"{place}.downsample.0.weight" in tensors:
                shortcut = norm(f"{place}.downsample.1", convolved(f"{place}.downsample.0", x, stride, 0))
            if depth < 50:
                x = F.relu(norm(f"{place}.bn1", convolved(f"{place}.conv1", x, stride, 1)))
                x = norm(f"{place}.bn2", convolved(f"{place}.conv2", x, 1, 1))
            else:
                x = F.relu(norm(f"{place}.bn1", convolved(f"{place}.conv1", x, 1, 0)))
                x = F.relu(norm(f"{place}.bn2", convolved(f"{place}.conv2", x, stride, 1)))
                x = norm(f"{place}.bn3", convolved(f"{place}.conv3", x, 1, 0))
            x = F.relu(x + shortcut)
    return x.mean(dim=(2, 3))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published file of depth 18."""
    path = tmp_path_factory.mktemp("weights") / "resnet.pth"
    torch.save(published_resnet(18), path)
    return path


@pytest.mark.parametrize("depth", [18, *(pytest.param(depth, marks=pytest.mark.slow) for depth in (34, 50, 101))])
def test_published_resnets_load_and_compute_the_same(depth: int, tmp_path: Path) -> None:
    tensors = published_resnet(depth)
    torch.save(tensors, tmp_path / "resnet.pth")
    options = {"depth": depth}
    encoder = built({"model_type": "resnet", "weights": str(tmp_path / "resnet.pth"), "model_init_config": options})
    x = torch.randn(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = encoder.eval()(pixel_values=x)
        expected = computed(tensors, depth, x)
    assert found.shape == (2, encoder.output_size)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()  # sums in another order


def test_names_and_shapes_of_deeper_ones() -> None:
    for depth in (34, 50):
        with torch.device("meta"):
            own = ResNet(ResNetOptions(depth=depth), 3).state_dict()
        expected = {name: shape for name, shape in published_shapes(depth).items() if not name.startswith("fc.")}
        assert {name: tuple(x.shape) for name, x in own.items()} == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer4.0.conv1.weight": None}, r"1 missing tensors \(layer4\.0\.conv1\.weight\)"),
        ({"layer5.0.conv1.weight": torch.zeros(1)}, r"1 unknown tensors \(layer5\.0\.conv1\.weight\)"),
        ({"conv1.weight": torch.zeros(64, 3, 3, 3)}, r"'conv1\.weight' has the shape \(64, 3, 3, 3\), not \(64, 3, 7"),
        ({"bn1.bias": torch.full((64,), torch.nan)}, r"'bn1\.bias' holds values that are not finite"),
    ],
)
def test_weights_of_another_architecture(change: dict[str, Any], message: str, weights: Path, tmp_path: Path) -> None:
    tensors = {name: x for name, x in {**torch.load(weights), **change}.items() if x is not None}
    save_file(tensors, tmp_path / "resnet.safetensors")
    model = {
        "model_type": "resnet",
        "weights": str(tmp_path / "resnet.safetensors"),
        "model_init_config": {"depth": 18},
    }
    place = r"inputs\.photo\.model\.weights: .*resnet\.safetensors holds no weights of a ResNet of depth 18: "
    with pytest.raises(UserError, match=place + message):
        built(model)


class Canary:
    """What would leave a trace if a file of weights were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_of_other_things_is_not_run(tmp_path: Path) -> None:
    torch.save({"conv1.weight": Canary(tmp_path / "canary")}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match=r"evil\.pth"):
        built(resnet18(tmp_path / "evil.pth"))
    assert not (tmp_path / "canary").exists()


def test_gray_pictures_and_published_weights(weights: Path) -> None:
    model = resnet18(weights)
    with pytest.raises(UserError, match=r"model\.weights: read 3 channels, mode L has 1; set mode: RGB"):
        fitted(model, mode="L", mean=[0.5], std=[0.5])
    with_own = fitted(model, mean=None, std=None, size=None)
    assert with_own.shape == (224, 224)
    assert (with_own.scaling.edge, with_own.mean) == (256, [0.485, 0.456, 0.406])


def test_what_is_frozen(weights: Path) -> None:
    """Weights stay as they are, and so do the running statistics of norms."""
    model = resnet18(weights)
    encoder = built({**model, "freeze": ["conv1", "bn1", "layer[12].*"]}).train()
    learns = {name for name, x in encoder.named_parameters() if x.requires_grad}
    assert learns == {name for name, _ in encoder.named_parameters() if name.startswith(("layer3", "layer4"))}
    before = {name: x.clone() for name, x in encoder.state_dict().items()}
    with torch.no_grad():
        encoder(pixel_values=torch.randn(4, 3, 32, 32))
    changed = {name.split(".")[0] for name, x in encoder.state_dict().items() if not torch.equal(x, before[name])}
    assert changed == {"layer3", "layer4"}
    whole = built({**model, "freeze_pretrained_model": True}).train()
    assert not any(x.requires_grad for x in whole.parameters())
    assert not any(module.training for module in whole.modules() if isinstance(module, nn.BatchNorm2d))
    with pytest.raises(UserError, match=r"model\.freeze: 'layer9' fits no tensor; did you mean 'layer"):
        built({**model, "freeze": ["layer9"]})


# --------------------------------------------------------------------------------------------------------------- vit

TINY = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "patch_size": 8,
}


def published_vit(folder: Path, *, for_classes: bool = False, **changes: Any) -> Any:
    transformers = pytest.importorskip("transformers", reason="the reference implementation is not installed")
    torch.manual_seed(0)
    config = transformers.ViTConfig(**TINY, image_size=32, **changes)
    model: Any = (transformers.ViTForImageClassification if for_classes else transformers.ViTModel)(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith(("cls_token", "position_embeddings", "bias")):
            nn.init.normal_(parameter, 0, 0.5)  # zeros would hide mistakes
    model.save_pretrained(folder)
    return model.vit if for_classes else model


@pytest.mark.parametrize("changes", [{}, {"qkv_bias": False, "hidden_act": "gelu_new"}, {"for_classes": True}], ids=str)
def test_published_vits_load_and_compute_the_same(changes: dict[str, Any], tmp_path: Path) -> None:
    reference = published_vit(tmp_path, **changes)
    encoder = built({"model_type": "vit", "weights": str(tmp_path)}, size=None).eval()
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        expected = reference(pixel_values=x).last_hidden_state
        found = encoder.read(pixel_values=x)
    assert found.states.shape == (3, 17, 24)
    assert (found.states - expected).abs().max() < 1e-5  # the kernel of attention sums in another order
    assert torch.equal(encoder(pixel_values=x), found.states[:, 0])


def test_pictures_of_another_size_than_the_published_ones(tmp_path: Path) -> None:
    reference = published_vit(tmp_path)
    encoder = built({"model_type": "vit", "weights": str(tmp_path), "pool": "avg"}, size=[48, 24]).eval()
    x = torch.randn(2, 3, 48, 24)
    with torch.no_grad():
        expected = reference(pixel_values=x, interpolate_pos_encoding=True).last_hidden_state
        assert (encoder.read(pixel_values=x).states - expected).abs().max() < 1e-5
        assert (encoder(pixel_values=x) - expected[:, 1:].mean(1)).abs().max() < 1e-5


def test_the_published_preprocessing(tmp_path: Path) -> None:
    published_vit(tmp_path)
    content = {"do_normalize": True, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "resample": 3,
               "size": {"height": 32, "width": 32}}  # fmt: skip
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    found = fitted({"model_type": "vit", "weights": str(tmp_path)}, size=None, mean=None, std=None)
    assert (found.mean, found.std) == (content["image_mean"], content["image_std"])
    assert (found.scaling.resize, found.scaling.resample, found.shape) == ("squeeze", 3, (32, 32))


def test_a_bundle_needs_no_published_folder(tmp_path: Path) -> None:
    published_vit(tmp_path / "published")
    model = {"model_type": "vit", "weights": str(tmp_path / "published")}
    input_ = fitted(model)
    encoder = input_.build_encoder(DataConfig())
    input_.save(tmp_path / "fitted")
    (tmp_path / "published" / "config.json").unlink()
    rebuilt: Any = FittedPixels.load(tmp_path / "fitted").build_encoder(DataConfig(), pretrained=False)
    rebuilt.load_state_dict(encoder.state_dict())
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(rebuilt.eval()(pixel_values=x), encoder.eval()(pixel_values=x))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model_type": "deit"}, r"model\.weights: .* is a 'deit', not a 'vit'"),
        ({"hidden_act": "loud"}, r"config\.json: hidden_act 'loud': "),
        ({"num_channels": 1}, r"model\.weights: read 1 channels, mode RGB has 3; set mode: L"),
        ({"num_hidden_layers": 3}, r"holds no weights of a ViT .*: 16 missing tensors \(encoder\.layer\.2\."),
        ({"patch_size": 16}, r"'embeddings\.p.*' has the shape"),
    ],
)
def test_vit_folders_that_cannot_be(content: dict[str, Any], message: str, tmp_path: Path) -> None:
    published_vit(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **content}))
    with pytest.raises(UserError, match=message):
        built({"model_type": "vit", "weights": str(tmp_path)})


# -------------------------------------------------------------------------------------------------------------- timm


class FakeModel(nn.Module):
    """What `eir_seq` asks of a model of timm."""

    def __init__(self, in_chans: int, num_classes: int, width: int = 6, last: bool = False) -> None:
        super().__init__()
        assert num_classes == 0
        self.num_features, self.last = width, last
        self.stem = nn.Conv2d(in_chans, width, 4, stride=4)
        self.norm = nn.BatchNorm2d(width)

    def forward_features(self, x: Tensor) -> Tensor:
        maps: Tensor = self.norm(self.stem(x))
        return maps.permute(0, 2, 3, 1) if self.last else maps

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        assert pre_logits
        return x.mean(dim=(1, 2) if self.last else (2, 3))


class FakeTimm:
    """The package, with one model."""

    def is_model(self, name: str) -> bool:
        return name == "tiny"

    def list_models(self) -> list[str]:
        return ["tiny"]

    def get_pretrained_cfg(self, name: str) -> Any:
        return SimpleNamespace(
            has_weights=True,
            input_size=(3, 28, 20),
            crop_pct=0.5,
            interpolation="bicubic",
            mean=(0.1, 0.2, 0.3),
            std=(0.5, 0.5, 0.5),
            fixed_input_size=False,
        )

    def create_model(self, name: str, pretrained: bool, **arguments: Any) -> FakeModel:
        model = FakeModel(**arguments)
        if pretrained:
            nn.init.constant_(model.stem.weight, 0.25)
        return model


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", FakeTimm())


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_any_model_of_timm(timm: None, last: bool) -> None:
    encoder = built({"model_type": "timm/tiny", "model_init_config": {"width": 5, "last": last}}, size=[32, 24])
    tokens = encoder.eval().read(pixel_values=torch.randn(2, 3, 32, 24))
    assert (tokens.states.shape, encoder.state_size, encoder.output_size) == ((2, 8 * 6, 5), 5, 5)
    assert (encoder.pool_tokens(tokens) - tokens.states.mean(1)).abs().max() < 1e-6


def test_the_weights_of_timm(timm: None) -> None:
    model = {"model_type": "timm/tiny", "pretrained_model": True, "freeze": ["stem"]}
    input_ = fitted(model, size=None, mean=None, std=None, mode="L")
    assert (input_.shape, input_.scaling.edge, input_.scaling.resample) == ((28, 20), 56, 3)
    assert input_.mean == pytest.approx([0.2])
    encoder: Any = input_.build_encoder(DataConfig())
    assert (encoder.model.stem.weight == 0.25).all()
    assert [name for name, x in encoder.named_parameters() if x.requires_grad] == [
        "model.norm.weight",
        "model.norm.bias",
    ]
    rebuilt: Any = input_.build_encoder(DataConfig(), pretrained=False)
    assert not (rebuilt.model.stem.weight == 0.25).any()


def test_what_timm_does_not_have(timm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"model\.model_type: timm has no model 'tinny'; did you mean 'tiny'"):
        built({"model_type": "timm/tinny"})
    with pytest.raises(UserError, match=r"inputs\.photo\.model: timm cannot build 'tiny' of these options: .*'depth'"):
        built({"model_type": "timm/tiny", "model_init_config": {"depth": 3}})
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"timm cannot be imported \(.*\); it needs a torchvision"):
        built({"model_type": "timm/tiny"})


# --------------------------------------------------------------------------------------------------------------- all


@pytest.mark.parametrize(
    "model",
    [
        {"model_type": "cnn", "model_init_config": {"channel_exp_base": 2}},
        pytest.param(
            {"model_type": "resnet", "model_init_config": {"depth": 18, "stem": "small"}}, marks=pytest.mark.slow
        ),
        {"model_type": "vit", "model_init_config": TINY},
    ],
    ids=lambda model: str(model["model_type"]),
)
@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGBA", 4)])
def test_states_and_vectors(model: dict[str, Any], mode: str, channels: int) -> None:
    """Every picture is read for itself, whatever its channels and shape, and all of it learns."""
    input_ = fitted(model, mode=mode, size=[24, 16], mean=[0.5] * channels, std=[1.0] * channels)
    encoder: Any = input_.build_encoder(DataConfig())
    assert isinstance(encoder, imported(input_.config.model.IMPLEMENTATION))
    x = torch.randn(3, channels, 24, 16)
    encoder.eval()
    tokens, vector = encoder.read(pixel_values=x), encoder(pixel_values=x)
    assert tokens.states.shape[2] == encoder.state_size
    assert tokens.states.shape[:2] == tokens.mask.shape
    assert vector.shape == (3, encoder.output_size)
    assert (vector[1:] - encoder(pixel_values=x[1:])).abs().max() < 1e-5
    if isinstance(encoder, ImageEncoder):
        vector.square().sum().backward()
        unused = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
        assert unused == []
