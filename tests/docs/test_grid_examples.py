"""Every example of the guides on arrays, outputs of arrays, and genotypes trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from eir_seq.config.validation import validate_experiment
from eir_seq.training.run import train
from tests.modalities.test_omics import random_codes, write_plink
from tests.readme import ROOT, blocks
from tests.recipes.genotypes import one_hot

PAGES = ("arrays", "generated_arrays", "genotypes")
EXAMPLES = [block for page in PAGES for block in blocks(ROOT / f"docs/guide/{page}.md", "yaml")]
SNPS = 60


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All files that the examples name, and a table of 12 rows."""
    monkeypatch.chdir(tmp_path)
    codes, samples = random_codes(12, SNPS), [f"s{place}" for place in range(12)]
    write_plink(Path("cohort.bed"), codes, samples)
    Path("snps.bim").write_text(Path("cohort.bim").read_text())
    Path("chosen.txt").write_text("rs3\nrs50\n")
    Path("pathways.txt").write_text("".join(f"path{place % 3}\trs{place}\n" for place in range(SNPS)))
    random = np.random.default_rng(0)
    with Path("rows.csv").open("w", encoding="utf-8") as table:
        table.write("array_file,mask_file,photo,colour_photo,genotype_file,sample,origin,height\n")
        for place, own in enumerate(codes):
            np.save(f"a{place}.npy", random.normal(size=(4, 20)))
            np.save(f"g{place}.npy", one_hot(own))
            np.save(f"m{place}.npy", random.integers(-1, 3, (4, 20)))
            picture = Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8))
            picture.save(f"c{place}.png")
            picture.convert("L").save(f"p{place}.png")
            files = f"a{place}.npy,m{place}.npy,p{place}.png,c{place}.png,g{place}.npy"
            table.write(f"{files},s{place},{'xy'[place % 2]},{place}\n")
    return tmp_path


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_an_example_trains(block: Any, files: Path) -> None:
    example = yaml.safe_load(block.text)
    if "plink" in block.text:
        pytest.importorskip("bed_reader")
    train(
        validate_experiment(
            {
                **example,
                "data": {"train": "rows.csv", "validation": 0.25, "cache_dir": "cache"},
                "trainer": {"max_steps": 1, "accelerator": "cpu"},
                "run": {"dir": str(files / "run")},
            }
        )
    )
    assert json.loads((files / "run" / "result.json").read_text())["status"] == "finished"
