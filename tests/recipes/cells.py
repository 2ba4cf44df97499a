"""The tasks of EIR's end-to-end tests whose outputs predict, with its models in our words and its thresholds."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.recipes import CLASS, HEIGHT, MakeRow, Tables, scores, write_inputs
from tests.recipes.arrays import make_array, make_codes
from tests.recipes.genotypes import make_genotypes, write_bim
from tests.recipes.images import make_picture
from tests.recipes.words import make_category, make_text, make_text_file

Section = Mapping[str, Any]
SIZE: Section = {"size": {"type": "regression", "column": "size"}}
MANY: Section = {**CLASS, **HEIGHT, **SIZE}
SHARED = {"type": "shared", "num_experts": 2}


@dataclass(frozen=True)
class Cell:
    """A line of the table.

    Attributes:
        name: the task and the model.
        makes: by column, what writes the input.
        inputs: sections of the experiment.
        outputs: sections of the experiment.
        bar: EIR's threshold on validation rows: MCC, R2, c-index or (at most) MSE; 0 for none.
        epochs: of EIR.
        ours: our own bar, on held-out rows.
        sections: other sections.
        per_class: rows of each class.
        classes: how many there are.
        lacking: see `write_inputs`.
    """

    name: str
    makes: Mapping[str, MakeRow]
    inputs: Section
    outputs: Section
    bar: float
    epochs: int = 12
    ours: float = 0.8
    sections: Mapping[str, Any] = field(default_factory=dict)
    per_class: int = 1000
    classes: int = 3
    lacking: int = 0

    def tables(self, folder: Path, seed: int, per_class: int | None = None) -> Tables:
        """Write its data; 200 rows at most are held out."""
        size = per_class or self.per_class
        write_bim(folder / "snps.bim")
        (folder / "subset.txt").write_text("".join(f"rs{snp}\n" for snp in range(200)), encoding="utf-8")
        test = min(200, size)
        kinds: dict[str, Any] = {"classes": self.classes, "lacking": min(self.lacking, size // 4)}
        return write_inputs(folder, self.makes, per_class=size, test=test, seed=seed, **kinds)

    def missed(self, scores: Mapping[str, float]) -> dict[str, float]:
        """The scores that do not reach our bar."""
        return {output: score for output, score in scores.items() if score < self.ours}

    def run(
        self, folder: Path, seed: int, *, per_class: int | None = None, epochs: int | None = None
    ) -> dict[str, float]:
        """Train it in a folder; gives the scores of its outputs on held-out rows."""
        tables = self.tables(folder, seed, per_class)
        inputs = copy.deepcopy(dict(self.inputs))
        for declared in inputs.values():
            for key in ("snp_file", "subset_snps_file"):
                if key in declared:
                    declared[key] = str(folder / declared[key])
        sections: dict[str, Any] = {"seed": seed, **self.sections}
        if self.lacking:
            keep = {"on_missing": "keep", "on_bad_row": "skip"}  # rows that lack all targets are left out
            sections["data"] = {**keep, **self.sections.get("data", {})}
        return scores(tables, inputs, self.outputs, epochs=epochs or self.epochs, run=folder / "run", **sections)


def genes(model_type: str, **options: Any) -> Section:
    """An input of genotypes."""
    model = {"model_type": model_type, "model_init_config": options}
    return {"genes": {"type": "omics", "column": "genes", "snp_file": "snps.bim", "model": model}}


def array(model_type: str, normalization: str = "channel", **options: Any) -> Section:
    """An input of an array."""
    model = {"model_type": model_type, "model_init_config": options}
    return {"scan": {"type": "array", "column": "scan", "normalization": normalization, "model": model}}


def text(pool: str = "max", window: int | None = None, tokenizer: Section | None = None) -> Section:
    """An input of words: one layer of width 64."""
    options = {"embedding_dim": 64, "num_layers": 1, "num_heads": 2, **({"window_size": window} if window else {})}
    model = {"model_type": "sequence-default", "pool": pool, "model_init_config": options}
    split = tokenizer or {"type": "word"}
    return {"text": {"type": "sequence", "column": "text", "max_length": 64, "tokenizer": split, "model": model}}


def mixing(alpha: float, type_: str = "mixup") -> Section:
    """Mixtures of rows in training."""
    return {"trainer": {"mixing": {"type": type_, "alpha": alpha}}}


GENES: Mapping[str, MakeRow] = {"genes": make_genotypes()}
TEXT: Mapping[str, MakeRow] = {"text": make_text}
PHOTO: Section = {"type": "image", "column": "photo", "size": 16, "mode": "L"}
SMALL_CNN: Section = {
    "model_type": "cnn",
    "model_init_config": {"layers": [1, 1], "kernel_width": 2, "kernel_height": 2},
}
RESNET: Section = {"model_type": "resnet", "model_init_config": {"depth": 18, "stem": "small"}}
SLOW = {"optimizer": {"lr": 1e-3}}
LIFE: Section = {"type": "survival", "time": "days", "event": "died"}
ALBERT: Section = {
    "model_type": "albert",
    "model_init_config": {
        "embedding_size": 16,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 66,
    },
}
WORDPIECES: Section = {"type": "bpe", "vocab_size": 512}
SUBSET: Section = {"genes": {**genes("identity")["genes"], "subset_snps_file": "subset.txt"}}
EXPERTS: Mapping[str, Section] = {"fusion": {"type": "gated-experts", "num_experts": 4}, "optimizer": {"lr": 3e-4}}
SHARING: Section = {name: {**output, "head": SHARED} for name, output in MANY.items()}
COPIES: Section = {"level": {"type": "tabular", "categorical": ["level"]}}


def generated(kind: str, column: str, **options: Any) -> Section:
    """An output that generates what the input shows, in 50 steps."""
    size = {"size": 16, "mode": "L"} if kind == "image" else {}
    diffusion = {"inference_steps": 50, "condition_dropout": 0.0, "unet": {"channels": 16, "multipliers": [1, 2, 2]}}
    return {"drawn": {"type": kind, "column": column, **size, "loss": "diffusion", "diffusion": diffusion | options}}


EMA: Mapping[str, Section] = {"trainer": {"averaging": {"type": "ema", "decay": 0.995}}}

CELLS = [
    Cell("genotypes, class: linear", GENES, genes("linear", l1=1e-4), CLASS, 0.8, 30, classes=2),
    Cell("genotypes, class: cnn", GENES, genes("cnn", dropout=0.05, channel_exp_base=3), CLASS, 0.8, 20),
    Cell("genotypes, class: identity", GENES, genes("identity"), CLASS, 0.8, sections=SLOW),
    Cell(
        "genotypes, class by BCE: genome-local-net",
        GENES,
        genes("genome-local-net", kernel_width=6, channel_exp_base=2, dropout=0.2),
        {"origin": {**CLASS["origin"], "loss": "bce"}},
        0.8,
        4,
        per_class=3000,
        classes=2,
    ),
    Cell("genotypes, 200 SNPs, class: identity", GENES, SUBSET, CLASS, 0.7, ours=0.7),
    Cell("genotypes, number: identity", GENES, genes("identity"), HEIGHT, 0.8),
    Cell("genotypes, number: cnn", GENES, genes("cnn", channel_exp_base=4), HEIGHT, 0.8),
    Cell("genotypes, number: linear", GENES, genes("linear"), HEIGHT, 0.8),
    Cell("genotypes, three targets: linear", GENES, genes("linear"), MANY, 0.6, sections=SLOW),
    Cell("genotypes, three targets: lcl-simple", GENES, genes("lcl-simple"), MANY, 0.6),
    Cell("genotypes, three targets: gated experts", GENES, genes("genome-local-net"), SHARING, 0.6, sections=EXPERTS),
    Cell("genotypes, three targets: cnn with mixup", GENES, genes("cnn"), MANY, 0.6, sections=mixing(0.2)),
    Cell(
        "genotypes, three targets: manifold mixup, uncertainty weighting",
        GENES,
        genes("genome-local-net"),
        MANY,
        0.6,
        sections={"trainer": {"mixing": {"type": "manifold", "alpha": 0.2}, "loss_weighting": "uncertainty"}},
    ),
    Cell(
        "genotypes and a category, three targets, rows that lack some",
        {"genes": make_genotypes(), "level": make_category},
        {**genes("genome-local-net"), **COPIES},
        SHARING,
        0.85,
        lacking=50,
    ),
    Cell(
        "genotypes and a category, two targets: an adversary between the inputs",
        {"genes": make_genotypes(), "level": make_category},
        {**genes("linear"), **COPIES},
        {**CLASS, **HEIGHT},
        0.8,
        15,
        sections={"adversaries": [{"from": "inputs.genes", "predict": "inputs.level", "weight": 0.05}]},
    ),
    *(
        Cell(
            f"array of {dimensions}, class: cnn", {"scan": make_array(dimensions)}, array("cnn", "element"), CLASS, 0.8
        )
        for dimensions in (1, 2, 3)
    ),
    *(
        Cell(
            f"array of {dimensions}, number: {model}",
            {"scan": make_array(dimensions)},
            array(model, **options),
            HEIGHT,
            0.8,
        )
        for dimensions in (1, 2, 3)
        for model, options in (
            ("cnn", {}),
            ("lcl", {"patch_size": [1, 1, 10]}),
            ("transformer", {"patch_size": [1, 1, 10], "embedding_dim": 32}),
        )
    ),
    Cell(
        "bytes, class: windows, manifold mixup",
        {"raw": make_text_file},
        {
            "raw": {
                "type": "bytes",
                "column": "raw",
                "max_length": 128,
                "model": {
                    "model_type": "sequence-default",
                    "pool": "max",
                    "model_init_config": {"embedding_dim": 8, "num_layers": 2, "num_heads": 2, "window_size": 64},
                },
            }
        },
        CLASS,
        0.6,
        ours=0.7,
        sections=mixing(0.1, "manifold"),
    ),
    Cell(
        "image, class: cnn with mixup",
        {"photo": make_picture},
        {"photo": {**PHOTO, "model": SMALL_CNN}},
        CLASS,
        0.6,
        6,
        sections=mixing(1.0),
    ),
    *(
        Cell(
            f"array of {dimensions}, the same array: {model}",
            {"scan": make_array(dimensions)},
            array(model, "element", **options),
            {"again": {"type": "array", "column": "scan", "model": {"model_type": model}}},
            0.35,
            15,
            ours=0.9,
        )
        for dimensions in (1, 2, 3)
        for model, options in (("cnn", {}), ("lcl", {"patch_size": [1, 1, 10]}))
    ),
    Cell(
        "array of classes, the same array: lcl",
        {"codes": make_codes},
        {"codes": {"type": "array", "column": "codes"}},
        {"again": {"type": "array", "column": "codes", "loss": "categorical", "model": {"model_type": "lcl"}}},
        0.0,
        15,
        ours=0.99,
    ),
    Cell(
        "image, the same image: cnn",
        {"photo": make_picture},
        {"photo": {**PHOTO, "model": SMALL_CNN}},
        {"again": {"type": "image", "column": "photo", "mode": "L"}},
        0.35,
        15,
        ours=0.9,
    ),
    Cell(
        "image, class: ResNet-18",
        {"photo": make_picture},
        {"photo": {**PHOTO, "model": RESNET}},
        CLASS,
        0.6,
        6,
        sections=SLOW,
    ),
    Cell("sequence, class: transformer", TEXT, text(), CLASS, 0.7),
    Cell(
        "sequence, class: BPE, windows, manifold mixup",
        TEXT,
        text("avg", 16, WORDPIECES),
        CLASS,
        0.7,
        sections=mixing(0.1, "manifold"),
    ),
    Cell("sequence, number: transformer", TEXT, text(), HEIGHT, 0.7),
    Cell(
        "sequence, three targets: transformer, gradient noise",
        TEXT,
        text(),
        MANY,
        0.7,
        sections={"trainer": {"gradient_noise": 0.01}},
    ),
    Cell("sequence, three targets: transformer with mixup", TEXT, text(), MANY, 0.7, sections=mixing(0.5)),
    Cell("sequence, three targets: albert", TEXT, {"text": {**text()["text"], "model": ALBERT}}, MANY, 0.7),
    *(
        Cell(
            f"genotypes, survival: {model}",
            GENES,
            genes("genome-local-net"),
            {"life": {**LIFE, "model": model}},
            0.6,
            ours=0.9,
            classes=2,
            lacking=0,
            sections={"data": {"batch_size": 128 if model == "cox" else 32}},
        )
        for model in ("discrete", "cox")
    ),
    Cell(
        "six inputs, four targets: attention, rows that lack some",
        {
            "genes": make_genotypes(),
            "scan": make_array(1),
            "photo": make_picture,
            "text": make_text,
            "raw": make_text_file,
            "level": make_category,
        },
        {
            **genes("genome-local-net"),
            **array("cnn"),
            "photo": {**PHOTO, "model": SMALL_CNN},
            **text(),
            "raw": {"type": "bytes", "column": "raw", "max_length": 128, "model": text()["text"]["model"]},
            **COPIES,
        },
        {**MANY, "life": {**LIFE, "model": "discrete"}},
        0.8,
        lacking=50,
        sections={"fusion": {"type": "attention", "num_layers": 1, "hidden_size": 128, "num_heads": 4}},
    ),
    Cell(
        "array of 1, generated by diffusion: lcl",
        {"scan": make_array(1)},
        array("lcl", patch_size=[1, 1, 10]),
        generated("array", "scan"),
        "MSE < 0.35",
        20,
        sections=EMA,
    ),
    Cell(
        "image, generated by diffusion: cnn",
        {"photo": make_picture},
        {"photo": {**PHOTO, "model": {"model_type": "cnn", "model_init_config": {"channel_exp_base": 4}}}},
        generated("image", "photo"),
        "MSE < 0.35",
        15,
        sections=EMA,
    ),
]
