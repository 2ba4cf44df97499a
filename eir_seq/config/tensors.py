"""What an architecture reads besides a text's tokens, and where it comes from: the section ``inputs.NAME.tensors``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from eir_seq.config.strict import Strict


class ColumnConfig(Strict):
    """A column."""

    column: str = Field(description="column of the data")


class XPathsConfig(Strict):
    """The way from the root of a page to each word (markuplm): ``/html/body/div[2]/p``."""

    column: str | None = Field(None, description="column with a list of xpaths, one per word")
    html: bool = Field(False, description="the text column holds HTML, whose texts and xpaths are read")

    @model_validator(mode="after")
    def _one_source(self) -> XPathsConfig:
        if (self.column is None) != self.html:
            raise ValueError("give column, or html: true")
        return self


class EntitiesConfig(Strict):
    """Entities that a text mentions (luke): a list of ``{start, end, name}``, in characters."""

    column: str = Field(description="column of the data")
    min_freq: int = Field(1, ge=1, description="rarer entities of the training rows become the unknown one")
    max_mention_length: int = Field(30, ge=1, description="tokens of a mention whose positions are read")


class LanguagesConfig(Strict):
    """The language of a row, or of each word (xlm, flaubert)."""

    column: str | None = Field(None, description="column with a language, or a list with one per word")
    value: str | None = Field(None, description="the language of all rows")
    lang2id: dict[str, int] | None = Field(
        None, description="number of each language; by default that of the published model or of the training rows"
    )

    @model_validator(mode="after")
    def _one_source(self) -> LanguagesConfig:
        if (self.column is None) == (self.value is None):
            raise ValueError("give column or value")
        if self.lang2id is not None and sorted(self.lang2id.values()) != list(range(len(self.lang2id))):
            raise ValueError("lang2id numbers the languages from 0 on, each by its own")
        return self


class TaskTypesConfig(Strict):
    """The type of the task of a row (ernie)."""

    column: str | None = Field(None, description="column with an integer")
    value: int | None = Field(None, ge=0, description="the type of all rows")

    @model_validator(mode="after")
    def _one_source(self) -> TaskTypesConfig:
        if (self.column is None) == (self.value is None):
            raise ValueError("give column or value")
        return self


class GlobalAttentionConfig(Strict):
    """Which tokens see the whole text and are seen by all (longformer, led): all that any of these rules names."""

    first: bool = Field(True, description="the first token")
    question: Literal["column", "pair_column"] | None = Field(
        None, description="all tokens of the text that is the question"
    )
    every: int | None = Field(None, ge=1, description="every k-th token, starting with the first")
    column: str | None = Field(
        None, description="column with a list of {start, end}, in characters of the text: the tokens there"
    )

    @model_validator(mode="after")
    def _some_rule(self) -> GlobalAttentionConfig:
        if not (self.first or self.question or self.every or self.column):
            raise ValueError("no token would be global: give first, question, every or column")
        return self


class SignsConfig(Strict):
    """How tokens look or sound (roc_bert): a JSON file of numbers by token."""

    file: str | None = Field(None, description="by default the published one in the tokenizer's folder")


class PictureConfig(ColumnConfig):
    """A picture (git)."""

    column: str = Field(
        description="column with the name of an image file, relative to the data file; with num_image_with_embedding a "
        "list of that many, the frames of a video"
    )
    resize: Literal["crop", "squeeze"] | None = Field(
        None,
        description="crop: resized by the shorter side, then center-cropped; squeeze: resized to a square; by "
        "default that of the pretrained model, or crop",
    )


class TensorsConfig(Strict):
    """Further inputs of the architecture, by their names in transformers."""

    bbox: ColumnConfig | None = Field(
        None, description="column with a list of boxes [left, top, right, bottom], one per word, from 0 to 1000"
    )
    xpaths: XPathsConfig | None = Field(None, description="xpaths of the words")
    entities: EntitiesConfig | None = Field(None, description="entities that the text mentions")
    visual_embeds: ColumnConfig | None = Field(
        None, description="column with vectors of regions: a .npy file (beside the data file), or a list of lists"
    )
    pixel_values: PictureConfig | None = Field(None, description="image that the text is about")
    global_attention_mask: GlobalAttentionConfig | None = Field(
        None, description="global tokens, which attend to the whole text; by default the first one"
    )
    langs: LanguagesConfig | None = Field(None, description="languages")
    task_type_ids: TaskTypesConfig | None = Field(None, description="type of the task")
    input_shape_ids: SignsConfig | None = Field(None, description="glyph ids of the tokens")
    input_pronunciation_ids: SignsConfig | None = Field(None, description="pronunciation ids of the tokens")

    def given(self) -> dict[str, Strict]:
        """The entries that are there."""
        entries = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {name: entry for name, entry in entries if entry is not None}
