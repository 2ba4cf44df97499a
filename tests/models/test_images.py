"""Git and imagegpt beyond what every architecture promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.errors import UserError
from eir_seq.models import create_model, from_pretrained
from eir_seq.models.backbones.stack import Stack
from eir_seq.models.option_checks import check_options
from tests.models.tiny import inputs, noisy, tiny
from tests.parity.cases.images import FRAMES, GIT, IMAGE_TOKENS, SIDE, VISION


def test_an_image_never_sees_the_text() -> None:
    model = noisy(tiny("git"))
    given = inputs(model)
    other = model(**{**given, "input_ids": given["input_ids"].flip(0)}).last_hidden_state
    states = model(**given).last_hidden_state
    assert torch.equal(other[:, :IMAGE_TOKENS], states[:, :IMAGE_TOKENS])
    assert not torch.allclose(other[:, IMAGE_TOKENS:], states[:, IMAGE_TOKENS:], atol=1e-2)


def test_a_text_sees_the_whole_image() -> None:
    model = noisy(tiny("git"))
    given = inputs(model)
    moved = {**given, "pixel_values": given["pixel_values"].clone()}
    moved["pixel_values"][:, :, -1, -1] += 1.0  # in the last patch
    before, after = (model(**x).last_hidden_state[:, IMAGE_TOKENS] for x in (given, moved))
    assert (before - after).abs().amax(1).min() > 1e-4


def test_without_an_image_padding_is_left_out() -> None:
    model = noisy(tiny("git"))
    given = {name: x for name, x in inputs(model).items() if name != "pixel_values"}
    packed = model(**given).last_hidden_state
    assert not packed[~given["attention_mask"].bool()].any()
    model.pack = False
    real = given["attention_mask"].bool()
    torch.testing.assert_close(packed[real], model(**given).last_hidden_state[real], atol=1e-5, rtol=1e-5)


def test_an_image_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache holds it, for other rows of the batch too once they are reordered."""
    model = noisy(tiny("git", "causal-lm"))
    given = inputs(model)
    ids, images = given["input_ids"], given["pixel_values"]
    passes = []
    forward = Stack.forward
    monkeypatch.setattr(Stack, "forward", lambda self, *a, **k: passes.append(self) or forward(self, *a, **k))
    with torch.no_grad():
        first = model(ids[:, :4], pixel_values=images, use_cache=True)
        first.past_key_values.reorder(torch.tensor([2, 0, 0]))
        ids = ids[[2, 0, 0]]
        step = model(ids[:, 4:6], pixel_values=images, past_key_values=first.past_key_values, use_cache=True)
        assert passes.count(model.body.encoder) == 1
        expected = model(ids[:, :6], pixel_values=images[[2, 0, 0]]).logits[:, -2:]
    assert step.logits.shape[1] == 2
    torch.testing.assert_close(step.logits, expected, atol=1e-5, rtol=1e-5)


def test_frames_of_a_video_are_told_apart() -> None:
    model = noisy(tiny("git", num_image_with_embedding=FRAMES))
    ids = inputs(model)["input_ids"]
    frames = torch.randn(3, FRAMES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    states = model(ids, pixel_values=frames).last_hidden_state
    assert states.shape[1] == FRAMES * IMAGE_TOKENS + ids.shape[1]
    assert not torch.allclose(
        model(ids, pixel_values=frames.flip(1)).last_hidden_state[:, -1], states[:, -1], atol=1e-3
    )
    assert model(ids, pixel_values=frames[:, :1]).last_hidden_state.shape[1] == IMAGE_TOKENS + ids.shape[1]


def test_images_of_another_size_on_request() -> None:
    model = noisy(tiny("git"))
    ids = inputs(model)["input_ids"]
    image = torch.zeros(3, 3, 2 * SIDE, SIDE)
    with pytest.raises(ValueError, match=r"have the shape \(3, 32, 16\), the options say \(3, 16, 16\)"):
        model(ids, pixel_values=image)
    states = model(ids, pixel_values=image, interpolate_pos_encoding=True).last_hidden_state
    assert states.shape[1] == 2 * 4 + 1 + ids.shape[1]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 1, SIDE, SIDE), r"have the shape \(1, 16, 16\), the options say \(3, 16, 16\)"),
        ((3, SIDE, SIDE), "have 3 dimensions; images have 4 and videos 5"),
        ((3, 3, 3, SIDE, SIDE), "videos have 3 frames, num_image_with_embedding is 2"),
        ((2, 3, SIDE, SIDE), "2 prefixes .* are given for 3 texts"),
    ],
)
def test_pixels_that_cannot_be(shape: tuple[int, ...], message: str) -> None:
    model = tiny("git", num_image_with_embedding=FRAMES)
    with pytest.raises(ValueError, match=message):
        model(inputs(model)["input_ids"], pixel_values=torch.zeros(shape))


@pytest.mark.parametrize(
    ("vision", "place", "message"),
    [
        ({"hiden_size": 8}, "vision_config.hiden_size", "not an option of 'git_vision_model'.*'hidden_size'"),
        ({"hidden_size": "wide"}, "vision_config.hidden_size", "'wide' is not an integer"),
        ({"image_size": 0}, "vision_config.image_size", "below the least value 1"),
        ({"hidden_size": 30, "num_attention_heads": 4}, "vision_config.hidden_size", "30 is not divisible by"),
        ({"patch_size": 400}, "vision_config.patch_size", "400 is more than image_size 224"),
        (3, "vision_config", "3 is not a mapping or null"),
    ],
)
def test_options_of_the_encoder_of_images(vision: Any, place: str, message: str) -> None:
    faults = check_options("git", {"vision_config": vision})
    assert [fault.place for fault in faults] == [place]
    with pytest.raises(UserError, match=message):
        create_model("git", {"vision_config": vision})


def test_distances_leave_places_for_a_text() -> None:
    options = {"position_embedding_type": "relative_key", "max_position_embeddings": 190}
    assert [fault.place for fault in check_options("git", options)] == ["max_position_embeddings"]
    assert create_model("git", {**GIT, "position_embedding_type": "relative_key"}).max_positions == 64 - IMAGE_TOKENS


def test_unknown_entries_of_a_published_part_are_kept(tmp_path: Path) -> None:
    """Released configs describe the encoder of images with entries that mean nothing here."""
    model = tiny("git")
    model.save_pretrained(tmp_path / "first")
    path = tmp_path / "first" / "config.json"
    content = json.loads(path.read_text())
    content["vision_config"] |= {"projection_dim": 512, "model_type": "git_vision_model"}
    path.write_text(json.dumps(content))
    from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")
    again = json.loads((tmp_path / "second" / "config.json").read_text())
    assert again["vision_config"] == {**VISION, "projection_dim": 512, "model_type": "git_vision_model"}


def test_one_option_of_a_part_is_changed(tmp_path: Path) -> None:
    tiny("git").save_pretrained(tmp_path)
    model = from_pretrained(tmp_path, vision_config={"attention_dropout": 0.3})
    assert model.config.vision.attention_dropout == 0.3
    assert model.config.vision.hidden_size == VISION["hidden_size"]
    assert model.load_report.initialised == ()


def test_the_token_that_begins_an_image_is_not_predicted() -> None:
    model = tiny("imagegpt", "causal-lm")
    begin = model.config.vocab_size - 1
    assert model(torch.tensor([[begin, 5, 7]])).logits.shape == (1, 3, begin)


def test_classes_of_an_image_are_read_from_the_mean_of_its_states() -> None:
    model = noisy(tiny("imagegpt", "image-classification"))
    ids = torch.randint(0, 100, (2, 16), generator=torch.Generator().manual_seed(0))
    expected = model.body(ids).last_hidden_state.mean(1) @ model.head.out.weight.t()
    torch.testing.assert_close(model(ids).logits, expected)
