"""The generated pages hold every key of the schema and every option of the catalogue."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from eir_seq.config import schema
from eir_seq.models.catalogue import CATALOGUE, architecture, config_class
from eir_seq.models.generation import GenerationOptions
from eir_seq.models.options import describe

pytest.importorskip("mkdocs")


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    path = Path(__file__).parents[2] / "docs" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(generate: ModuleType) -> dict[str, str]:
    found: dict[str, str] = generate.pages()
    return found


def test_every_section_of_the_schema_has_its_place(generate: ModuleType) -> None:
    shown = {name for names in generate.SECTIONS.values() for name in names}
    assert shown == set(schema.ExperimentConfig.model_json_schema()["$defs"])


def test_every_key_stands_in_the_reference_with_its_meaning(generate: ModuleType) -> None:
    reference = generate.config_reference()
    definitions = schema.ExperimentConfig.model_json_schema()["$defs"]
    for names in generate.SECTIONS.values():
        for name in names:
            for key, field in definitions[name]["properties"].items():
                row = next(line for line in reference.splitlines() if line.startswith(f"| `{key}` |"))
                assert row.count("|") == 5
                if key == "type" or "const" in field:
                    continue
                assert field.get("description"), f"{name}.{key} says not what it means"
                assert field["description"].replace("|", "&#124;") in reference


def test_ranges_and_choices_are_readable(generate: ModuleType) -> None:
    reference = generate.config_reference()
    assert "| `lr` | number > 0 and <= 100 | `0.001` |" in reference
    assert "| `max_length` | integer >= 3 or `average`, `max` | `512` |" in reference
    column = "column of file names (relative to the data file) or of their bytes (Parquet, Hub)"
    assert f"| `column` | text | required | {column} |" in reference


def test_a_page_says_how_its_architecture_exports(generate: ModuleType) -> None:
    yes = "With [dynamic batch and length](../guide/models.md#export): yes."
    assert yes in generate.architecture_page("bert")
    mixtral = generate.architecture_page("mixtral")
    assert f"{yes}\nThe program holds `eir_seq::grouped_linear`: import `eir_seq.models` where it runs." in mixtral
    assert "An example of at most" in generate.architecture_page("big_bird")


def test_every_architecture_has_a_page_with_its_options(pages: dict[str, str]) -> None:
    for name in CATALOGUE:
        assert f"]({name}.md)" in pages["architectures/index.md"]
        page = pages[f"architectures/{name}.md"]
        assert CATALOGUE[name].paper in page
        for option in describe(config_class(name)):
            assert f"| `{option['name']}` | {option['type'].replace('|', '&#124;')} |" in page


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_page_names_paper_tasks_and_documented_classes(
    name: str, generate: ModuleType, pages: dict[str, str]
) -> None:
    page = pages[f"architectures/{name}.md"]
    assert CATALOGUE[name].paper in page
    tasks = architecture(name).tasks
    assert tuple(tasks) == CATALOGUE[name].tasks
    assert all(f"| `{task}` | `{declared.published}` |" in page for task, declared in tasks.items())
    assert ", ".join(tasks) in generate.architecture_list()


def test_every_option_of_generate_stands_on_its_page(pages: dict[str, str]) -> None:
    page = pages["reference/generation.md"]
    for option in describe(GenerationOptions):
        assert f"| `{option['name']}` | {option['type'].replace('|', '&#124;')} |" in page
        assert option["meaning"] in page
