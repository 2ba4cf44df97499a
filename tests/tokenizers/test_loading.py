"""Loading: broken, hostile and foreign files give one clear line; the Hub's cache is used; small formats by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from eir_seq.errors import UserError
from eir_seq.tokenizers import files as tokenizer_files
from eir_seq.tokenizers import load_tokenizer, train_tokenizer

BERT_VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film", "##s", "caf", "##e", "!"]


def write_bert(folder: Path, **config: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(BERT_VOCAB) + "\n", encoding="utf-8")
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def fault_of(folder: Path | str) -> str:
    with pytest.raises(UserError) as raised:
        load_tokenizer(folder)
    message = str(raised.value)
    assert len(message.splitlines()) == 1
    return message


def test_wordpiece_by_hand(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_bert(tmp_path))
    (encoding,) = tokenizer.encode_batch(["The FILMS caf\u00e9!"])
    assert tokenizer.tokens(encoding.ids) == ["the", "film", "##s", "caf", "##e", "!"]
    assert tokenizer.add_specials(encoding.ids, [5]) == ([2, 5, 6, 7, 8, 9, 10, 3, 5, 3], [0] * 8 + [1] * 2)
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id) == (
        0,
        1,
        2,
        3,
        4,
    )
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.vocab_size) == (None, None, 11)
    cased = load_tokenizer(write_bert(tmp_path / "cased", do_lower_case=False))
    assert cased.encode_batch(["The film"])[0].ids == [1, 6]


def test_special_and_added_tokens_of_all_layouts(tmp_path: Path) -> None:
    new = {"11": {"content": "<new>", "special": True}, "12": {"content": "plain", "normalized": True}}
    by_decoder = load_tokenizer(write_bert(tmp_path / "a", added_tokens_decoder=new, pad_token={"content": "[PAD]"}))
    folder = write_bert(tmp_path / "b")
    (folder / "added_tokens.json").write_text('{"<new>": 11, "plain": 12}')
    (folder / "special_tokens_map.json").write_text('{"additional_special_tokens": ["<new>"]}')
    by_map = load_tokenizer(folder)
    for tokenizer in (by_decoder, by_map):
        assert tokenizer.vocab_size == 13
        ids = tokenizer.encode_batch(["film<new>plain"])[0].ids
        assert ids == [6, 11, 12]
        assert tokenizer.decode(ids, skip_special_tokens=True) == "film plain"
        assert tokenizer.decode(ids) == "film <new> plain"


def test_roles_can_be_switched_off_and_renamed(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_bert(tmp_path, mask_token=None, bos_token="the", pad_token="!"))
    assert (tokenizer.mask_id, tokenizer.bos_id, tokenizer.pad_id) == (None, 5, 10)


def test_a_tokenizer_json_alone_tells_its_roles_by_the_usual_names(tmp_path: Path) -> None:
    train_tokenizer("word", ["a b"]).save(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id) == (
        0,
        1,
        2,
        3,
        4,
    )
    assert tokenizer.add_specials([5]) == ([2, 5, 3], [0, 0, 0])


def test_truncation_and_padding_of_the_file_are_left_out(tmp_path: Path) -> None:
    train_tokenizer("word", ["a b c d"]).save(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    content["padding"] = {
        "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert [len(encoding.ids) for encoding in load_tokenizer(tmp_path).encode_batch(["a b c d", "a"])] == [4, 1]


BROKEN: dict[str, tuple[dict[str, bytes], str]] = {
    "nothing there": ({"config.json": b"{}"}, "no tokenizer in it"),
    "only vocab.json": ({"vocab.json": b'{"a": 0}'}, "no tokenizer in it"),
    "truncated json": ({"tokenizer.json": b'{"version": "1.0", "model"'}, "tokenizer.json: not a tokenizer"),
    "other json": ({"tokenizer.json": b'{"a": 1}'}, "tokenizer.json: not a tokenizer"),
    "empty": ({"tokenizer.json": b""}, "tokenizer.json: empty file"),
    "not UTF-8": ({"tokenizer.json": b'{"\xff'}, "tokenizer.json: not UTF-8 at byte 2"),
    "deep json": ({"tokenizer.json": b"[" * 100_000}, "tokenizer.json: not a tokenizer"),
    "bad vocab.txt": ({"vocab.txt": b"a\n\xff\n"}, "vocab.txt: not UTF-8 at byte 2"),
    "no specials": ({"vocab.txt": b"a\nb\n"}, "vocab.txt: its unk token '[UNK]' is not a line of it"),
    "deep config": (
        {"vocab.txt": b"a\n", "tokenizer_config.json": b'{"a":' + b"[" * 100_000},
        "tokenizer_config.json: not valid JSON: nested too deeply",
    ),
    "list as config": ({"vocab.txt": b"a", "tokenizer_config.json": b"[]"}, "a JSON object is expected, not list"),
    "flag": (
        {"vocab.txt": "\n".join(BERT_VOCAB).encode(), "tokenizer_config.json": b'{"do_lower_case": "no"}'},
        "do_lower_case: true or false is expected, not 'no'",
    ),
    "role": (
        {"vocab.txt": "\n".join(BERT_VOCAB).encode(), "tokenizer_config.json": b'{"sep_token": 3}'},
        "tokenizer_config.json: sep_token: a token is expected, not 3",
    ),
    "added id": (
        {
            "vocab.txt": "\n".join(BERT_VOCAB).encode(),
            "tokenizer_config.json": b'{"added_tokens_decoder": {"99999999999": {"content": "x"}}}',
        },
        "added token 'x' has id 99999999999, but would get 11",
    ),
    "foreign family": (
        {"vocab.txt": "\n".join(BERT_VOCAB).encode(), "config.json": b'{"model_type": "phobert"}'},
        "how 'phobert' uses this file is not known",
    ),
    "merges": ({"vocab.json": b'{"a": 0, "b": 1}', "merges.txt": b"#version: 0.2\na b c\n"}, "merges.txt: line 2"),
    "merges of another": (
        {"vocab.json": b'{"a": 0}', "merges.txt": b"a b\n"},
        "merges.txt: does not fit vocab.json",
    ),
    "ids": ({"vocab.json": b'{"a": -1}', "merges.txt": b"a b\n"}, "vocab.json: 'a': an id is expected, not -1"),
    "not byte-level": ({"vocab.json": b'{"a</w>": 0}', "merges.txt": b"a b\n"}, "not a byte-level vocabulary"),
    "sentencepiece": ({"spiece.model": b"\x00\x01garbage"}, "spiece.model: not a sentencepiece model"),
    "empty spm": ({"tokenizer.model": b""}, "tokenizer.model: empty file"),
    "spm family": (
        {"tokenizer.model": b"x", "tokenizer_config.json": b'{"tokenizer_class": "BarthezTokenizer"}'},
        "how 'barthez' uses this file is not known",
    ),
    "extra ids": (
        {"spiece.model": b"x", "tokenizer_config.json": b'{"tokenizer_class": "T5Tokenizer", "extra_ids": -1}'},
        "spiece.model: not a sentencepiece model",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files(name: str, tmp_path: Path) -> None:
    content, expected = BROKEN[name]
    for file, data in content.items():
        (tmp_path / file).write_bytes(data)
    assert expected in fault_of(tmp_path)


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tokenizer.json").touch()
    with (tmp_path / "tokenizer.json").open("r+b") as handle:
        handle.truncate(tokenizer_files.MAX_BYTES + 1)
    assert "tokenizer.json: 128 MB; at most 128 MB are read" in fault_of(tmp_path)


def edit(path: Path, change: Callable[[dict], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_hostile_regular_expression_is_the_users_fault(tmp_path: Path) -> None:
    train_tokenizer("word", ["a b"]).save(tmp_path)

    def bomb(content: dict) -> None:
        content["pre_tokenizer"] = {
            "type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False,
        }  # fmt: skip

    edit(tmp_path / "tokenizer.json", bomb)
    tokenizer = load_tokenizer(tmp_path)
    for offsets in (False, True):
        with pytest.raises(UserError, match=r"tokenizer\.json: this tokenizer cannot encode a text"):
            tokenizer.encode_batch(["a" * 40 + "!"], offsets=offsets)
    assert tokenizer.encode_batch(["b"])[0].ids == [6]


def test_an_invalid_regular_expression(tmp_path: Path) -> None:
    train_tokenizer("word", ["a b"]).save(tmp_path)
    edit(tmp_path / "tokenizer.json", lambda content: content["pre_tokenizer"]["pattern"].update(Regex="(("))
    assert "tokenizer.json: not a tokenizer that can be read" in fault_of(tmp_path)


def test_a_framing_with_ids_outside_of_the_vocabulary(tmp_path: Path) -> None:
    train_tokenizer("word", ["a b"]).save(tmp_path)

    def far(content: dict) -> None:
        content["post_processor"]["special_tokens"]["[SEP]"]["ids"] = [70_000]

    edit(tmp_path / "tokenizer.json", far)
    assert "adds the token id 70000" in fault_of(tmp_path)


class TestWhere:
    def test_no_such_folder(self, tmp_path: Path) -> None:
        (tmp_path / "bert-tiny").mkdir()
        assert "no such folder; did you mean 'bert-tiny'?" in fault_of(tmp_path / "bert-tinny")

    def test_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "tokenizer.json").write_text("{}")
        assert "a folder is expected, this is a file" in fault_of(tmp_path / "tokenizer.json")

    @pytest.mark.parametrize("name", ["", "-bad-name-", "a/b..c"])
    def test_impossible_id(self, name: str) -> None:
        message = fault_of(name)
        assert "folder" in message

    def test_offline_and_not_cached(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(UserError) as raised:
            load_tokenizer("acme/tiny", local_files_only=True)
        assert str(raised.value).startswith("acme/tiny: no such folder, not in the Hub's cache")
        assert len(str(raised.value).splitlines()) == 1

    def test_from_the_hubs_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        commit = "0123456789abcdef0123456789abcdef01234567"
        repository = tmp_path / "models--acme--tiny"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
        (repository / "snapshots").mkdir()
        write_bert(repository / "snapshots" / commit)
        for revision in (None, "main", commit):
            assert load_tokenizer("acme/tiny", revision=revision, local_files_only=True).vocab_size == len(BERT_VOCAB)

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            ("RepositoryNotFoundError", "nor a repository on the Hub"),
            ("RevisionNotFoundError", "no revision 'v9'"),
            ("GatedRepoError", "access is restricted"),
            ("LocalEntryNotFoundError", "the Hub is out of reach"),
            ("HfHubHTTPError", "the Hub is out of reach"),
        ],
    )
    def test_what_the_hub_answers(self, error: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub

        kind = getattr(huggingface_hub.errors, error)

        def answer(*args: object, **kwargs: object) -> str:
            raise kind.__new__(kind)

        monkeypatch.setattr("huggingface_hub.snapshot_download", answer)
        with pytest.raises(UserError) as raised:
            load_tokenizer("acme/tiny", revision="v9")
        assert expected in str(raised.value)
        assert str(raised.value).startswith("acme/tiny: ")
