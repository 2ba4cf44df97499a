"""Inputs of genotypes: arrays and PLINK files, which SNPs are read, random changes, encoders, and bad files."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eir_seq.config.validation import validate_experiment
from eir_seq.data.encoded import EncodedInMemory
from eir_seq.data.source import load_splits
from eir_seq.errors import UserError
from eir_seq.inference.predict import predict
from eir_seq.modalities import build_modality, load_modality
from eir_seq.modalities.omics.augmentation import MISSING, Augmentation
from eir_seq.modalities.omics.config import OmicsAugmentationConfig
from eir_seq.randomness import Draw
from tests.recipes import CLASS, HEIGHT, scores, write_tables
from tests.recipes.genotypes import make_codes, make_genotypes, one_hot, write_bim

SNPS = 20
STILL: dict[str, Any] = {"missing": None}
"""No augmentation."""
ENCODERS: dict[str, dict[str, Any]] = {
    "genome-local-net": {"cutoff": 16, "dropout": 0.0},
    "genome-local-net-informed-moe": {"num_blocks": 1, "output_size": 5},
    "lcl-simple": {"num_chunks": 4},
    "cnn": {"cutoff": 4},
    "linear": {"l1": 0.1},
    "identity": {},
}


def random_codes(rows: int, snps: int = SNPS) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4, (rows, snps)).astype(np.uint8)


def write_plink(path: Path, codes: np.ndarray, samples: list[str]) -> None:
    """A .bed file by its definition: two bits for a genotype, SNP by SNP, and the files beside it."""
    bits = np.array([0b11, 0b10, 0b00, 0b01], np.uint8)[codes]
    packed = np.zeros((codes.shape[1], -(-len(codes) // 4)), np.uint8)
    for row, own in enumerate(bits):
        packed[:, row // 4] |= own << (2 * (row % 4))
    path.write_bytes(b"\x6c\x1b\x01" + packed.tobytes())
    write_bim(path.with_suffix(".bim"), codes.shape[1])
    path.with_suffix(".fam").write_text("".join(f"family {name} 0 0 0 -9\n" for name in samples))


def experiment(folder: Path, cells: list[str], **changes: Any) -> Any:
    lines = [f"{cell},{'ab'[place % 2]}" for place, cell in enumerate(cells)]
    (folder / "rows.csv").write_text("\n".join(["genes,side", *lines]) + "\n", encoding="utf-8")
    return validate_experiment(
        {
            "data": {"train": str(folder / "rows.csv"), "cache_dir": str(folder / "cache"), "validation": 0.2},
            "inputs": {"genes": {"type": "omics", "column": "genes", "augmentation": STILL, **changes}},
            "fusion": {"type": "concat"},
            "outputs": {"side": {"type": "classification", "column": "side"}},
            "run": {"dir": str(folder / "run")},
        }
    )


def fitted_on(folder: Path, cells: list[str], **changes: Any) -> Any:
    """The fitted input, and the codes of the training rows by cell."""
    config = experiment(folder, cells, **changes)
    modality = build_modality("genes", config.inputs["genes"])
    rows = load_splits(config, {"genes": modality}).train
    assert rows is not None
    fitted = modality.fit(rows, 0)
    batch = fitted.collator(EncodedInMemory(fitted, rows[:]), range(rows.num_rows), Draw(0, 0))
    names = [name.rpartition("/")[2] for name in fitted.show(rows[:])]
    return fitted, dict(zip(names, batch["codes"].numpy(), strict=True))


def write_arrays(folder: Path, codes: np.ndarray, rows: int) -> list[str]:
    for place, own in enumerate(codes):
        np.save(folder / f"{place}.npy", one_hot(own, rows).astype([np.int8, bool, np.float64][place % 3]))
    return [f"{place}.npy" for place in range(len(codes))]


@pytest.mark.parametrize("rows", [3, 4])
def test_both_layouts_of_one_hot_arrays(rows: int, tmp_path: Path) -> None:
    codes = random_codes(10)
    _, found = fitted_on(tmp_path, write_arrays(tmp_path, codes, rows))
    assert len(found) == 8
    for name, own in found.items():
        assert np.array_equal(own, codes[int(name.removesuffix(".npy"))])


def test_samples_of_plink_files(tmp_path: Path) -> None:
    """By id, in any order; genotypes are counts of the first allele."""
    pytest.importorskip("bed_reader")
    codes, samples = random_codes(10), [f"s{place}" for place in range(10)]
    write_plink(tmp_path / "all.bed", codes, samples)
    for cells, plink in ((samples[::-1], str(tmp_path / "all.bed")), ([f"all.bed:{name}" for name in samples], None)):
        fitted, found = fitted_on(tmp_path, cells, plink=plink)
        assert len(found) == 8
        for name, own in found.items():
            assert np.array_equal(own, codes[samples.index(name.rpartition(":")[2])])
        assert fitted.snps.ids[:2] == ("rs0", "rs1")


@pytest.mark.parametrize("plink", [False, True])
def test_a_subset_of_the_snps_and_groups(plink: bool, tmp_path: Path) -> None:
    """SNPs keep the order of the files, whatever the order of the list."""
    codes = random_codes(10)
    (tmp_path / "subset.txt").write_text("rs7\n\nrs2\nrs11\n")
    (tmp_path / "groups.txt").write_text("one\trs11\none\trs7\nother\trs2\nother\trs7\n")
    files: dict[str, Any] = {
        "subset_snps_file": str(tmp_path / "subset.txt"),
        "groups_file": str(tmp_path / "groups.txt"),
        "model": {"model_type": "genome-local-net-informed-moe"},
    }
    if plink:
        pytest.importorskip("bed_reader")
        cells = [f"s{place}" for place in range(10)]
        write_plink(tmp_path / "all.bed", codes, cells)
        files["plink"] = str(tmp_path / "all.bed")
    else:
        cells = write_arrays(tmp_path, codes, 3)
        write_bim(tmp_path / "snps.bim", SNPS)
        files["snp_file"] = str(tmp_path / "snps.bim")
    fitted, found = fitted_on(tmp_path, cells, **files)
    assert fitted.snps.ids == ("rs2", "rs7", "rs11")
    assert fitted.groups == {"one": [1, 2], "other": [0, 1]}
    for name, own in found.items():
        place = int(re.findall(r"\d+", name)[-1])
        assert np.array_equal(own, codes[place][[2, 7, 11]])


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("missing_as", ["zeros", "category"])
def test_every_encoder_reads_codes_and_values(name: str, missing_as: str, tmp_path: Path) -> None:
    """Rows do not depend on each other, every parameter learns, and mixed values are read as codes are."""
    write_bim(tmp_path / "snps.bim", SNPS)
    (tmp_path / "groups.txt").write_text("".join(f"{'ab'[place % 2]}\trs{place}\n" for place in range(SNPS)))
    grouped = {"groups_file": str(tmp_path / "groups.txt")} if name.endswith("moe") else {}
    fitted, found = fitted_on(
        tmp_path,
        write_arrays(tmp_path, random_codes(10), 4),
        snp_file=str(tmp_path / "snps.bim"),
        missing_as=missing_as,
        model={"model_type": name, "model_init_config": ENCODERS[name]},
        **grouped,
    )
    codes = torch.from_numpy(np.stack(list(found.values())))
    torch.manual_seed(0)
    encoder = fitted.build_encoder(None).eval()
    vectors = encoder(codes=codes)
    assert vectors.shape == (len(codes), encoder.output_size)
    assert torch.allclose(encoder(codes=codes[2:3]), vectors[2:3], atol=1e-6)
    tokens = encoder.read(codes=codes)
    assert tokens.states.shape[2] == encoder.state_size
    assert torch.allclose(encoder.pool_tokens(tokens), vectors)
    values = encoder.expand(codes)
    assert torch.equal(values.sum(dim=1)[:, 0] == 0, (codes == MISSING) & (missing_as == "zeros"))
    (encoder(values=values.requires_grad_()) ** 2).sum().backward()
    assert [key for key, x in encoder.named_parameters() if x.grad is None] == []
    assert (encoder.penalty() is not None) == (name == "linear")


def test_a_bundle_keeps_the_snps(tmp_path: Path) -> None:
    write_bim(tmp_path / "snps.bim", SNPS)
    (tmp_path / "subset.txt").write_text("rs7\nrs2\n")
    cells = write_arrays(tmp_path, random_codes(10), 3)
    files = {"snp_file": str(tmp_path / "snps.bim"), "subset_snps_file": str(tmp_path / "subset.txt")}
    fitted, _ = fitted_on(tmp_path, cells, **files)
    fitted.save(tmp_path / "fitted")
    again: Any = load_modality(tmp_path / "fitted")
    assert again.fingerprint() == fitted.fingerprint()
    assert again.snps == fitted.snps
    assert again.describe() == fitted.describe() | {"snps": 2}
    assert "rs7" in (tmp_path / "fitted" / "snps.bim").read_text()
    (tmp_path / "fitted" / "snps.bim").write_text("rs1\n")
    with pytest.raises(UserError, match="no fitted omics input"):
        load_modality(tmp_path / "fitted")


def test_augmentation_is_counted(tmp_path: Path) -> None:
    """The same row of the same epoch gets the same genotypes; none are changed in evaluation."""
    fitted, _ = fitted_on(
        tmp_path, write_arrays(tmp_path, random_codes(10), 3), augmentation={"shuffle": {"alpha": 1.0, "beta": 1.0}}
    )
    encoded = EncodedInMemory(fitted, {"genes": [f'["{tmp_path}/{place}.npy",0,0]' for place in range(10)]})

    def codes(epoch: int | None, rows: list[int]) -> np.ndarray:
        found: np.ndarray = fitted.collator(encoded, rows, Draw(0, epoch))["codes"].numpy()
        return found

    assert np.array_equal(codes(None, [0, 1]), random_codes(10)[:2])
    assert np.array_equal(codes(1, [3, 2])[0], codes(1, [3])[0])
    assert not np.array_equal(codes(1, [3]), codes(2, [3]))


def test_how_much_augmentation_changes() -> None:
    """The share of missing calls has the mean of its beta distribution; shuffling keeps how often each code occurs."""
    row = np.tile(np.arange(3, dtype=np.uint8), 100)
    lose = Augmentation("genes", OmicsAugmentationConfig.model_validate({"missing": {"alpha": 2.0, "beta": 6.0}}))
    changed = np.stack([lose(row, place, Draw(0, 0)) for place in range(400)])
    lost = changed == MISSING
    assert abs(lost.mean() - 0.25) < 0.02  # less the calls that both ways lose; four standard errors
    longest = max(len(run) for run in re.findall("1+", "".join("1" if x else "0" for x in lost[0])))
    assert longest > 5  # a block
    assert np.array_equal(changed[~lost], np.broadcast_to(row, changed.shape)[~lost])
    shuffle = Augmentation(
        "genes", OmicsAugmentationConfig.model_validate({"missing": None, "shuffle": {"alpha": 2.0, "beta": 2.0}})
    )
    shuffled = shuffle(row, 0, Draw(0, 0))
    assert not np.array_equal(shuffled, row)
    assert np.array_equal(np.bincount(shuffled), np.bincount(row))


BAD: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "other.npy": (lambda x: x[:, :-1], r"an array of 19 SNPs; .*snps\.bim lists 20"),
    "turned.npy": (lambda x: x.T, r"an array of 20 x 3; genotypes are 3 x SNPs or 4 x SNPs; transpose it"),
    "counts.npy": (lambda x: x * 2, r"an array with the value 2; one-hot genotypes are 0 and 1"),
    "nan.npy": (lambda x: x * np.nan, r"an array with the value nan"),
    "two.npy": (lambda x: np.ones_like(x), r"an array that is not one-hot: SNP 1 has 3 values of 1"),
    "none.npy": (lambda x: np.zeros((4, SNPS)), r"an array that is not one-hot: SNP 1 has 0 values of 1"),
}


def test_arrays_that_are_no_genotypes(tmp_path: Path) -> None:
    write_bim(tmp_path / "snps.bim", SNPS)
    good = one_hot(random_codes(1)[0])
    for start in range(0, len(BAD), 3):
        part = dict(list(BAD.items())[start : start + 3])
        for name, (change, _) in part.items():
            np.save(tmp_path / name, change(good.astype(np.float32)))
        np.save(tmp_path / "good.npy", good)
        (tmp_path / "cut.npy").write_bytes((tmp_path / "good.npy").read_bytes()[:-1])
        config = experiment(tmp_path, ["good.npy", *part, "cut.npy"], snp_file=str(tmp_path / "snps.bim"))
        with pytest.raises(UserError) as caught:
            load_splits(config)
        messages = [*(message for _, message in part.values()), r"which cannot be read as an array"]
        for line, (place, message) in zip(map(str, caught.value.faults), enumerate(messages, 3), strict=True):
            assert f"line {place}: 'genes' names" in line
            assert re.search(message, line), (message, line)


def test_plink_files_that_cannot_be_used(tmp_path: Path) -> None:
    pytest.importorskip("bed_reader")
    bed, samples = tmp_path / "all.bed", [f"s{place}" for place in range(8)] + ["twin", "twin"]
    write_plink(bed, random_codes(10), samples)
    messages = {
        "twim": r"is 'twim': all\.fam has no sample with that id; did you mean 'twin'",
        "twin": r"is 'twin': all\.fam has several samples with that id",
        "cut.bed:s1": r"cut\.bed, which cannot be read \(it has 62 bytes, not 63 for the 10 samples of cut\.fam",
        "foreign.bed:s1": r"foreign\.bed, which has other SNPs \(SNP 3 is rs2 C A, not rs2 A C\)",
        "alone.bed:s1": r"alone\.bed, which cannot be read \(alone\.bim next to it cannot be read",
    }
    for name in ("cut", "foreign", "alone"):
        for suffix in (".bed", ".bim", ".fam"):
            (tmp_path / name).with_suffix(suffix).write_bytes(bed.with_suffix(suffix).read_bytes())
    (tmp_path / "cut.bed").write_bytes(bed.read_bytes()[:-1])
    lines = (tmp_path / "foreign.bim").read_text().splitlines()
    lines[2] = lines[2].replace("A\tC", "C\tA")
    (tmp_path / "foreign.bim").write_text("\n".join(lines))
    (tmp_path / "alone.bim").unlink()
    config = experiment(tmp_path, ["s0", *messages], plink=str(bed))
    with pytest.raises(UserError) as caught:
        load_splits(config)
    for line, (place, message) in zip(map(str, caught.value.faults), enumerate(messages.values(), 3), strict=True):
        assert f"line {place}: 'genes' " in line
        assert re.search(message, line), (message, line)


@pytest.mark.parametrize(
    ("content", "key", "message"),
    [
        ("rs0\nrs99\n", "subset_snps_file", r"names 1 unknown SNPs: 'rs99'"),
        ("", "subset_snps_file", r"is empty"),
        ("rs5\n", "subset_snps_file", r"names 'rs5', an id of several SNPs"),
        ("a rs1\n", "groups_file", r"line 1: 'a rs1' is not a group, a tab and a SNP"),
        ("a\trs1\nb\trs98\n", "groups_file", r"names 1 unknown SNPs: 'rs98'"),
    ],
)
def test_lists_of_snps_that_cannot_be(content: str, key: str, message: str, tmp_path: Path) -> None:
    write_bim(tmp_path / "snps.bim", SNPS)
    text = (tmp_path / "snps.bim").read_text()
    (tmp_path / "snps.bim").write_text(text.replace("rs6\t", "rs5\t"))
    (tmp_path / "list.txt").write_text(content)
    model = {"model": {"model_type": "genome-local-net-informed-moe"}} if key == "groups_file" else {}
    files = {"snp_file": str(tmp_path / "snps.bim"), key: str(tmp_path / "list.txt")}
    with pytest.raises(UserError, match=rf"inputs\.genes\.{key}: .*{message}"):
        fitted_on(tmp_path, write_arrays(tmp_path, random_codes(4), 3), **files, **model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subset_snps_file": "x"}, r"inputs\.genes\.subset_snps_file: needs the ids of SNPs; give snp_file or plink"),
        ({"plink": "x.bed", "snp_file": "x"}, r"inputs\.genes\.snp_file: has no effect with plink"),
        ({"model": {"model_type": "genome-local-net-informed-moe"}}, r"inputs\.genes\.groups_file: is missing"),
        ({"snp_file": "x", "groups_file": "x"}, r"inputs\.genes\.groups_file: has no effect with model_type genome"),
        ({"augmentation": {"missing": {"alpha": 0.0, "beta": 1.0}}}, r"augmentation\.missing\.alpha"),
        ({"model": {"model_type": "genome-local"}}, r"inputs\.genes\.model.*'genome-local'"),
    ],
)
def test_configs_that_cannot_be(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        experiment(tmp_path, ["a"], **changes)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    write_bim(tmp_path / "snps.bim", 3)
    declared = experiment(tmp_path, ["a"], snp_file=str(tmp_path / "snp.bim")).inputs["genes"]
    [fault] = declared.preflight("inputs.genes")
    assert str(fault) == f"inputs.genes.snp_file: {tmp_path}/snp.bim is no file; did you mean 'snps.bim'?"
    with pytest.raises(UserError, match=r"inputs\.genes\.snp_file: .* is no \.bim file"):
        _ = build_modality("genes", declared).cells


def test_genotypes_tell_the_class(tmp_path: Path) -> None:
    """Also for rows that the bundle predicts."""
    tables = write_tables(tmp_path, "genes", make_genotypes(3, 100), per_class=100, test=60)
    inputs = {"genes": {"type": "omics", "column": "genes", "model": {"model_type": "genome-local-net"}}}
    found = scores(tables, inputs, CLASS, epochs=10, run=tmp_path / "run", data={"validation": 0.2})
    assert found["origin"] > 0.8
    again = predict(tmp_path / "run" / "bundle", test=str(tables.test), output=tmp_path / "again.csv")
    first = (tmp_path / "run" / "predictions" / "test.csv").read_text(encoding="utf-8")
    assert list(csv.DictReader(again.read_text().splitlines())) == list(csv.DictReader(first.splitlines()))


FULL: dict[str, tuple[dict[str, Any], Mapping[str, Any], int]] = {
    "genome-local-net": ({"model_type": "genome-local-net"}, {**CLASS, **HEIGHT}, 12),
    "lcl-simple": ({"model_type": "lcl-simple"}, {**CLASS, **HEIGHT}, 12),
    "cnn": ({"model_type": "cnn", "model_init_config": {"channel_exp_base": 3, "dropout": 0.05}}, CLASS, 20),
    "cnn, heights": ({"model_type": "cnn", "model_init_config": {"channel_exp_base": 4}}, HEIGHT, 12),
    "linear": ({"model_type": "linear", "model_init_config": {"l1": 1e-4}}, {**CLASS, **HEIGHT}, 30),
    "identity": ({"model_type": "identity"}, {**CLASS, **HEIGHT}, 12),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_genotypes_at_full_size(name: str, tmp_path: Path) -> None:
    """1,000 SNPs and 1,000 rows of each class; MCC and R2 of 0.8 are asked for."""
    model, outputs, epochs = FULL[name]
    tables = write_tables(tmp_path, "genes", make_genotypes(), per_class=1000, test=200)
    inputs = {"genes": {"type": "omics", "column": "genes", "model": model}}
    found = scores(tables, inputs, outputs, epochs=epochs, run=tmp_path / "run")
    assert min(found.values()) > 0.8, found


@pytest.mark.slow
def test_a_subset_at_full_size(tmp_path: Path) -> None:
    """200 of 1,000 SNPs, of which two are causal: 11 % of rows show none, so that 0.89 is the best MCC."""
    tables = write_tables(tmp_path, "genes", make_genotypes(), per_class=1000, test=200)
    write_bim(tmp_path / "snps.bim")
    (tmp_path / "subset.txt").write_text("".join(f"rs{place}\n" for place in range(200)))
    files = {"snp_file": str(tmp_path / "snps.bim"), "subset_snps_file": str(tmp_path / "subset.txt")}
    inputs = {"genes": {"type": "omics", "column": "genes", "model": {"model_type": "identity"}, **files}}
    assert scores(tables, inputs, CLASS, epochs=12, run=tmp_path / "run")["origin"] > 0.7


def test_recipes_hold_what_they_say() -> None:
    codes, k = make_codes(2, np.random.default_rng(0))
    places = list(range(50, 1000, 100))
    assert (codes[places] == 2).sum() == k
    assert (codes[places] == MISSING).sum() == 10 - k
    assert (np.delete(codes, places) < MISSING).all()
