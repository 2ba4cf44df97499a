"""Projections, fusions and hooks on a small network, without a run."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eir_seq.broker import build_broker, measured_shapes
from eir_seq.broker.fusions import MessageFusion
from eir_seq.broker.message import Message
from eir_seq.broker.places import Place
from eir_seq.broker.shapes import Shape, tensor_in, with_tensor
from eir_seq.config.broker import AdversaryConfig, MessageConfig
from eir_seq.config.fusion import ConcatFusionConfig
from eir_seq.errors import UserError
from eir_seq.fusion import build_fusion
from eir_seq.modalities.encoders.base import Encoder, VectorEncoder
from eir_seq.models.output import ModelOutput, TokenStates
from eir_seq.registry import MESSAGE_FUSIONS, PROJECTIONS
from eir_seq.training.latents import layers_of
from eir_seq.training.network import Network

VECTOR, WORDS, POSITIONS, PICTURE = Shape((6,)), Shape((None, 5)), Shape((7, 4)), Shape((3, 4, 6))
SHAPES = (VECTOR, WORDS, POSITIONS, PICTURE)


def tensor_of(shape: Shape, rows: int = 2, length: int = 5) -> Tensor:
    return torch.randn(rows, *(length if size is None else size for size in shape.sizes))


def message_of(source: Shape, target: Shape, **options: Any) -> Message:
    config = MessageConfig.model_validate({"from": "inputs.a", "to": "inputs.b", **options})
    return Message(0, config, Place("inputs.a", "output"), source, Place("inputs.b", "input"), target)


def sent(message: Message, x: Tensor, mask: Tensor | None = None, there: Tensor | None = None) -> Tensor:
    """What comes to a target of zeros."""
    torch.manual_seed(3)
    states = message.source_shape.states(x)
    target = torch.zeros_like(tensor_of(message.target_shape, len(x)))
    found: Tensor = message(target, states, mask, there)
    return found


class TestProjections:
    @pytest.mark.parametrize("target", SHAPES, ids=str)
    @pytest.mark.parametrize("source", SHAPES, ids=str)
    @pytest.mark.parametrize("name", sorted(set(PROJECTIONS) - {"identity", "pointwise", "sequence"}))
    def test_give_the_shape_of_the_target(self, name: str, source: Shape, target: Shape) -> None:
        message = message_of(source, target, projection=name, fusion="additive").eval()
        x = tensor_of(source)
        found = sent(message, x)
        assert target.fits(found)
        assert found.isfinite().all()
        assert not torch.allclose(found[0], found[1])
        torch.testing.assert_close(found[:1], sent(message, x[:1]))
        if source is WORDS:
            padded = torch.cat([x, torch.zeros_like(x)], dim=1)
            mask = torch.arange(10).expand(2, 10) < 5
            torch.testing.assert_close(sent(message, padded, mask), found)

    @pytest.mark.parametrize("target", SHAPES, ids=str)
    @pytest.mark.parametrize("source", SHAPES, ids=str)
    def test_attention_to_all_positions(self, source: Shape, target: Shape) -> None:
        message = message_of(source, target, fusion="cross-attention", projection={"type": "sequence", "num_tokens": 2})
        nn.init.normal_(message.fuse.attention.out_proj.weight)  # it begins at zero
        message.eval()
        x = tensor_of(source)
        found = sent(message, x)
        assert target.fits(found)
        assert not torch.allclose(found[0], found[1])
        if source is WORDS:
            padded = torch.cat([x, torch.full_like(x, 9.0)], dim=1)
            torch.testing.assert_close(sent(message, padded, torch.arange(10).expand(2, 10) < 5), found)
            nothing = sent(message, x, torch.zeros(2, 5, dtype=torch.bool), torch.tensor([False, False]))
            assert torch.equal(nothing, torch.zeros_like(nothing))

    def test_what_auto_stands_for(self) -> None:
        wide = Shape((2000,))
        assert message_of(VECTOR, VECTOR).how == "identity, gated-sum"
        assert message_of(VECTOR, POSITIONS).how == "linear, gated-sum"
        assert message_of(wide, wide.__class__((2001,))).how == "lcl, gated-sum"
        assert message_of(WORDS, WORDS).how == "linear, gated-sum"
        assert message_of(WORDS, VECTOR, fusion="cross-attention").how == "sequence, cross-attention"

    def test_linear_and_pool_are_the_formulas(self) -> None:
        x = tensor_of(POSITIONS)
        linear = message_of(POSITIONS, VECTOR, projection="linear", fusion="additive")
        weight, bias = linear.project.linear.weight, linear.project.linear.bias
        torch.testing.assert_close(sent(linear, x), x.flatten(1) @ weight.T + bias)
        pool = message_of(POSITIONS, VECTOR, projection="pool", fusion="additive")
        weight, bias = pool.project.linear.weight, pool.project.linear.bias
        torch.testing.assert_close(sent(pool, x), x.mean(dim=1) @ weight.T + bias)

    def test_widths_are_divisible(self) -> None:
        options = {"type": "lcl", "kernel_width": 4, "kernel_width_divisible_by": 3}
        layer = message_of(Shape((30,)), VECTOR, projection=options).project.layer
        assert layer.weight.shape == (5, 6, 2)  # 30 values by 6, two channels give 10 of 6

    def test_what_does_not_fit_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"'identity' needs equal shapes, which are 6 and 7 x 4"):
            message_of(VECTOR, POSITIONS, projection="identity")
        with pytest.raises(ValueError, match=r"'pointwise' needs equal positions; the shapes are 6 and 7 x 4"):
            message_of(VECTOR, POSITIONS, projection="pointwise")
        with pytest.raises(ValueError, match=r"needs the same positions, and inputs\.a has those of another text"):
            message_of(WORDS, WORDS, projection="pointwise")


class TestFusions:
    def fusion(self, name: str) -> MessageFusion:
        message = message_of(VECTOR, POSITIONS, fusion=name, projection="sequence" if "attention" in name else "linear")
        found: MessageFusion = message.fuse
        return found

    def test_how_they_begin(self) -> None:
        states, message = torch.randn(2, 7, 4), torch.randn(2, 7, 4)
        for name, expected in {
            "additive": states + message,
            "concat": states + message,
            "gated-sum": states,
            "cross-attention": states,
        }.items():
            torch.testing.assert_close(self.fusion(name)(states, message, None, None), expected)
        assert set(MESSAGE_FUSIONS) == {"additive", "concat", "gated-sum", "cross-attention"}

    def test_a_gate_is_the_formula(self) -> None:
        fusion: Any = self.fusion("gated-sum")
        states, message = torch.randn(2, 7, 4), torch.randn(2, 1, 4)
        nn.init.normal_(fusion.gate)
        found = fusion(states, message, None, None)
        torch.testing.assert_close(found, states + torch.tanh(fusion.gate) * message)

    @pytest.mark.parametrize("name", sorted(MESSAGE_FUSIONS))
    def test_rows_without_a_message(self, name: str) -> None:
        fusion, states, message = self.fusion(name), torch.randn(2, 7, 4), torch.randn(2, 7, 4)
        for parameter in fusion.parameters():
            nn.init.normal_(parameter)
        there = torch.tensor([True, False])
        found = fusion(states, message, None, there)
        torch.testing.assert_close(found[0], fusion(states, message, None, None)[0])
        other = fusion(states, torch.randn(2, 7, 4), None, there)
        torch.testing.assert_close(found[1], other[1])

    def test_dropout_of_rows(self) -> None:
        message = message_of(VECTOR, VECTOR, fusion="additive", projection="linear", dropout=0.25)
        nn.init.ones_(message.project.linear.bias)
        x = torch.zeros(4000, 6)
        dropped = (message(x, x[:, None], None, None) == 0).all(dim=1)
        assert float(dropped.float().mean()) == pytest.approx(0.25, abs=0.03)  # four standard deviations
        assert not (message.eval()(x, x[:, None], None, None) == 0).any()


def test_tensors_within_what_layers_give() -> None:
    x, other = torch.randn(2, 3), torch.randn(2, 3)
    states = TokenStates(x, torch.ones(2, 3, dtype=torch.bool))
    for value in (x, (x, None), [torch.arange(2), x], states, ModelOutput(last_hidden_state=x), {"a": x, "b": x}):
        assert tensor_in(value) is x
        replaced = with_tensor(value, other)
        assert type(replaced) is type(value)
        assert tensor_in(replaced) is other
    assert tensor_in({"a": x, "b": other}) is None
    assert tensor_in(torch.arange(3)) is None


# ------------------------------------------------------------------------------------------------- through a network


class Words(Encoder):
    output_size = state_size = 4

    def __init__(self) -> None:
        super().__init__()
        self.table, self.first, self.second = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def read(self, input_ids: Tensor, attention_mask: Tensor) -> TokenStates:  # type: ignore[override]
        return TokenStates(self.second(self.first(self.table(input_ids)).tanh()), attention_mask.bool())

    def pool_tokens(self, tokens: TokenStates) -> Tensor:
        weights = tokens.mask[..., None].float()
        return (tokens.states * weights).sum(1) / weights.sum(1)


class Numbers(VectorEncoder):
    output_size = 5

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.unused, self.twice = nn.Linear(3, 5), nn.Linear(3, 5), nn.Tanh()

    def encode(self, values: Tensor) -> Tensor:  # type: ignore[override]
        found: Tensor = self.twice(self.twice(self.linear(values)))
        return found


def network() -> Network:
    torch.manual_seed(0)
    encoders = {"words": Words(), "numbers": Numbers()}
    fusion = build_fusion(ConcatFusionConfig(), {"words": 4, "numbers": 5}, ["y", "z"])
    return Network(encoders, fusion, {"y": nn.Linear(9, 2), "z": nn.Linear(9, 1)}, absent=("words",))


def batch(rows: int = 4, length: int = 6, seed: int = 1) -> dict[str, Any]:
    torch.manual_seed(seed)
    mask = torch.arange(length) < torch.randint(1, length + 1, (rows, 1))
    mask[0] = True
    words = {"input_ids": torch.randint(0, 9, (rows, length)), "attention_mask": mask}
    return {"inputs": {"words": words, "numbers": {"values": torch.randn(rows, 3)}}, "id": list(map(str, range(rows)))}


def connected(net: Network, *messages: Mapping[str, Any], adversaries: Any = ()) -> Network:
    broker = [MessageConfig.model_validate(message) for message in messages]
    opponents = [AdversaryConfig.model_validate(adversary) for adversary in adversaries]
    layers = layers_of(net)
    shapes = measured_shapes(net, layers, broker, opponents, [batch(2, 4), batch(3, 6)])
    net.broker = build_broker(net, layers, broker, opponents, {}, shapes)
    return net


WORDS_TO_NUMBERS = {"from": "inputs.words.first", "to": "inputs.numbers.linear", "into": "output", "fusion": "additive"}


def test_a_message_is_the_mean_of_the_tokens_through_a_linear_layer() -> None:
    net, plain = connected(network(), WORDS_TO_NUMBERS), network()
    given = batch()
    words, numbers = net.encoder("words"), net.encoder("numbers")
    assert isinstance(words, Words)
    assert isinstance(numbers, Numbers)
    states, mask = words.first(words.table(given["inputs"]["words"]["input_ids"])), given["inputs"]["words"]
    weights = mask["attention_mask"][..., None].float()
    mean = (states * weights).sum(1) / weights.sum(1)
    assert net.broker is not None
    linear: Any = net.broker.messages[0].project.linear  # type: ignore[union-attr]
    expected = (numbers.linear(given["inputs"]["numbers"]["values"]) + linear(mean)).tanh().tanh()
    read = torch.cat([plain.encoder("words")(**given["inputs"]["words"]), expected], dim=1)
    torch.testing.assert_close(net.run(given)["y"], plain.head("y")(read))
    assert not torch.allclose(net.run(given)["y"], plain.run(given)["y"])
    net.run(given)["y"].sum().backward()  # type: ignore[no-untyped-call]
    assert linear.weight.grad.abs().sum() > 0


def test_rows_that_lack_the_source() -> None:
    net, plain = connected(network(), WORDS_TO_NUMBERS), network()
    given = batch()
    present = {"words": torch.tensor([True, False, True, False])}
    found, without = net.run({**given, "present": present})["y"], plain.run({**given, "present": present})["y"]
    torch.testing.assert_close(found[[1, 3]], without[[1, 3]])
    assert not torch.isclose(found[[0, 2]], without[[0, 2]]).any()
    nothing = {**given, "inputs": {**given["inputs"], "words": {}}, "present": {"words": torch.zeros(4) > 0}}
    torch.testing.assert_close(net.run(nothing)["y"], plain.run(nothing)["y"])


def test_encoders_and_patterns() -> None:
    """What whole encoders give can be sent and changed; modules in between may be left out."""
    messages = (
        {"from": "inputs.words", "to": "inputs.numbers", "into": "output", "fusion": "additive"},
        {"from": "inputs.*.linear", "at": "input", "to": "outputs.z", "fusion": "concat"},
        {"from": "fusion", "to": "outputs.y", "into": "output", "fusion": "additive"},
    )
    net = connected(network(), *messages)
    assert net.broker is not None
    described = [(part["from"], part["shape"], part["to"], part["target shape"]) for part in net.broker.describe()]
    assert described == [
        ("inputs.words", "4", "inputs.numbers", "5"),
        ("the input of inputs.numbers.linear", "3", "the input of outputs.z", "9"),
        ("fusion", "9", "outputs.y", "2"),
    ]
    counts = net.count_parameters()
    assert counts["broker[2]"] == 9 * 2 + 2
    assert counts["total"] == sum(p.numel() for p in net.parameters())
    given = batch()
    found = net.run(given)
    changed = {**given, "inputs": {**given["inputs"], "words": batch(seed=2)["inputs"]["words"]}}
    assert not torch.isclose(found["z"], net.run(changed)["z"]).any()
    assert net.public_name("broker.messages.0.project.linear.weight") == "broker.0.project.linear.weight"


def test_a_copy_has_messages_of_its_own() -> None:
    net = connected(network(), WORDS_TO_NUMBERS)
    given = batch()
    before = net.run(given)["y"]  # tensors of a graph are held while it is copied
    other = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in other.broker.parameters():  # type: ignore[union-attr]
            parameter.zero_()
    assert torch.equal(net.run(given)["y"], before)
    assert not torch.allclose(other.run(given)["y"], before)


def test_first_weights_and_random_numbers_stay() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    net = network()
    net.train()
    torch.manual_seed(5)
    measured_shapes(net, layers_of(net), [MessageConfig.model_validate(WORDS_TO_NUMBERS)], [], [batch(2), batch(3)])
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), expected)
    assert net.training
    assert net.broker is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_all_faults_at_once() -> None:
    with pytest.raises(UserError) as caught:
        connected(
            network(),
            {"from": "inputs.numbers", "to": "inputs.words.second"},
            {"from": "inputs.numbers.unused", "to": "outputs.y"},
            {"from": "inputs.words.third", "to": "outputs.y"},
            {"from": "inputs.words", "to": "inputs.numbers.twice"},
            {"from": "inputs.words.table", "at": "input", "to": "outputs.y"},
            {"from": "fusion", "at": "input", "to": "outputs.y"},
            {"from": "inputs.*", "to": "outputs.y"},
        )
    found = str(caught.value).splitlines()
    assert found == [
        "broker[2].from: there is no layer 'inputs.words.third'; did you mean 'inputs.words.first'?",
        "broker[6].from: 'inputs.*' fits 8 layers: inputs.words, inputs.words.table, inputs.words.first, "
        "inputs.words.second ...",
        "broker[1].from: inputs.numbers.unused does not run in a forward pass; name a layer within it or around it",
        "broker[3].to: the input of inputs.numbers.twice runs 2 times in a forward pass; name a layer that runs once",
        "broker[4].from: the input of inputs.words.table reads no tensor of numbers; name a layer within it or "
        "around it",
        "broker[5].from: the input of fusion reads no tensor of numbers; name a layer within it or around it",
        "broker[0].to: the input of inputs.words.second runs before inputs.numbers; inputs run in the order of the "
        "config",
    ]


def test_what_decoders_hold() -> None:
    """Of a forward pass, for some rows and several copies of each."""
    net = connected(network(), {"from": "inputs.words", "to": "outputs.y", "fusion": "additive"})
    broker = net.broker
    assert broker is not None
    given = batch()
    net.run({**given, "present": {"words": torch.tensor([True, False, True, True])}})
    tensors = broker.tensors_for("y")
    assert broker.tensors_for("z") == {}
    assert {len(x) for x in tensors.values()} == {4}
    features = torch.randn(2, 9)
    held = broker.held[Place("inputs.words", "output")]
    expected = broker.messages[0](features, held.clean()[1:3], None, torch.tensor([False, True]))
    broker.hold({name: x[1:3] for name, x in tensors.items()})
    found = broker.merged(broker.parts[0], features.repeat_interleave(3, 0))  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected.repeat_interleave(3, 0))
    with pytest.raises(UserError, match=r"broker\[0\]: the input of outputs\.y: 2 rows were sent and 3 are received"):
        broker.merged(broker.parts[0], torch.randn(3, 9))  # type: ignore[arg-type]


def test_shapes_of_training_hold_later() -> None:
    net = connected(network(), {"from": "inputs.numbers", "to": "outputs.y"})
    numbers: Any = net.encoder("numbers")
    numbers.linear = nn.Linear(3, 4)
    with pytest.raises(UserError, match=r"broker\[0\]: inputs\.numbers has the shape 4 here; it was 5 in training"):
        net.run(batch())
