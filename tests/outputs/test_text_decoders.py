"""Every architecture that can write a text from the states of any inputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from eir_seq.config.backbones import SequenceModelConfig
from eir_seq.errors import UserError
from eir_seq.models.catalogue import config_class, list_decoders
from eir_seq.models.options import fields
from eir_seq.models.output import TokenStates
from eir_seq.outputs.generation.source import TextSource
from eir_seq.outputs.generation.writing import Writer
from eir_seq.outputs.seq2seq_lm.config import Seq2SeqLmOutputConfig
from eir_seq.outputs.seq2seq_lm.decoder import StateDecoder
from eir_seq.outputs.seq2seq_lm.fitted import Seq2SeqLmState
from eir_seq.outputs.seq2seq_lm.from_states import FittedTextFromStates
from eir_seq.tokenizers import train_tokenizer
from tests.models.tiny import DROPOUTS, OPTIONS, noisy

TOKENIZER = train_tokenizer("word", ["a red circle above a blue square", "two green ones"])
TEXTS = ["a red circle", "two", None, "a blue square above"]
SIZES = {"photo": 6, "table": 4}
FAST = ("bart", "t5", "bert", "gpt2")
DECODERS = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in list_decoders()]


def fitted(model_type: str, max_length: int = 9, **options: Any) -> FittedTextFromStates:
    """An output with a tiny decoder, whose vocabulary and special tokens are those of the tokenizer."""
    known = fields(config_class(model_type))
    own = _without_tokens(OPTIONS[model_type])
    own |= {name: 0.0 for name in DROPOUTS if name in known}
    if "published_bias_order" in known:  # by which it sees later tokens
        own["published_bias_order"] = False
    if "vocab_size" in OPTIONS[model_type] and model_type == "imagegpt":  # it does not score the last colour
        own["vocab_size"] = TOKENIZER.vocab_size + 1
    model = SequenceModelConfig(model_type=model_type, model_init_config=own | options)
    config = Seq2SeqLmOutputConfig(column="text", model=model, max_length=max_length)
    return FittedTextFromStates(Seq2SeqLmState(name="text", config=config, longest=max_length), TOKENIZER)


def _without_tokens(options: dict[str, Any]) -> dict[str, Any]:
    """The options of an architecture without those of its vocabulary, in its parts, too."""
    return {
        name: _without_tokens(x) if isinstance(x, dict) else x
        for name, x in options.items()
        if not name.endswith(("token_id", "vocab_size"))
    }


def states(rows: int = 4) -> dict[str, TokenStates]:
    """Of two inputs; some rows have fewer."""
    generator = torch.Generator().manual_seed(1)
    found = {}
    for name, length in (("photo", 5), ("table", 2)):
        x = torch.randn(rows, length, SIZES[name], generator=generator).requires_grad_()
        mask = torch.arange(length)[None] < torch.tensor([length, 1, length, 1])[:rows, None]
        found[name] = TokenStates(x, mask)
    return found


def build(model_type: str, **options: Any) -> tuple[FittedTextFromStates, StateDecoder]:
    """The output and its head."""
    torch.manual_seed(0)
    output = fitted(model_type, **options)
    head = output.build_state_head(SIZES, pretrained=False)
    noisy(head)  # type: ignore[arg-type]
    return output, head


def written(output: FittedTextFromStates, head: StateDecoder, read: dict[str, TokenStates], **options: Any) -> Tensor:
    """Labels of what is generated."""
    before, behind = output.frame
    end = behind[-1]
    source = TextSource(["photo", "table"], dict, head, TOKENIZER, before, behind, end, 7)
    writer = Writer("text", options, source, [""] * 4, [None] * 4, frozenset(range(4)), 0)
    with torch.inference_mode():
        return writer.generated(head.memory(read), 0)


@pytest.mark.parametrize("model_type", DECODERS)
def test_it_learns_and_writes_from_states(model_type: str) -> None:
    output, head = build(model_type)
    read, targets = states(), output.targets({"text": TEXTS})
    raw = head.train()(read, targets)
    counts = output.loss_counts({}, targets)
    assert torch.equal(raw[:, 1:], counts.float())
    loss = output.loss_terms(raw, targets).sum() / counts.sum()
    assert 0 < loss.item() < 50
    loss.backward()  # type: ignore[no-untyped-call]
    for name, found in read.items():
        moved = found.states.grad
        assert moved is not None
        real = torch.tensor([True, True, False, True])[:, None] & found.mask
        assert bool((moved.abs().sum(-1) > 0)[real].all()), name
        assert not bool(moved[~found.mask].any())
    assert not [name for name, _ in head.named_parameters() if ".encoder." in name], "nothing would read it"
    unused = [name for name, x in head.named_parameters() if x.grad is None]
    assert not [name for name in unused if "cross" in name or name.startswith("projections")]
    head.eval()
    read = {name: TokenStates(x.states.detach(), x.mask) for name, x in read.items()}
    one = written(output, head, read)
    assert torch.equal(one, written(output, head, read, use_cache=False))
    for row in range(4):  # a row alone, without the padding of the others
        alone = {
            name: TokenStates(x.states[[row]][:, x.mask[row]], x.mask[[row]][:, x.mask[row]])
            for name, x in read.items()
        }
        single = written(output, head, alone)[0]
        assert torch.equal(single[single >= 0], one[row][one[row] >= 0])
    beams = written(output, head, read, num_beams=3)
    drawn = [written(output, head, read, do_sample=True, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert len(beams) == 4
    tokens = head(read, targets)
    assert torch.allclose(tokens, head(read, torch.nn.functional.pad(targets, (0, 2), value=-100)), atol=1e-4)


def test_an_architecture_without_such_a_decoder_names_those_that_have_one() -> None:
    from eir_seq.backbones import build_decoder

    with pytest.raises(UserError) as caught:
        build_decoder(SequenceModelConfig(model_type="llama"), TOKENIZER, "outputs.text", stored=None, pretrained=True)
    assert "outputs.text.model.model_type: 'llama' has no decoder with cross-attention; these have one: bart," in str(
        caught.value
    )


def test_options_that_leave_no_decoder() -> None:
    def said(model_type: str, **options: Any) -> str:
        with pytest.raises(UserError) as caught:
            fitted(model_type, **options).build_state_head(SIZES, pretrained=False)
        return str(caught.value)

    assert "model_init_config.add_cross_attention: must be true" in said("gpt2", add_cross_attention=False)
    assert "add_cross_attention: needs is_decoder: true" in said("bert", is_decoder=False)
    assert f"outputs.text.tokenizer: there are {TOKENIZER.vocab_size} tokens, 'bert' writes 5" in said(
        "bert", vocab_size=5
    )
