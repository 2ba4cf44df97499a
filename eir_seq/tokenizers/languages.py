"""Formats that name the language of a text by a token: M2M100, mBART, mBART-50, NLLB and PLBart.

The codes are in the order of their ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eir_seq.errors import Fault, UserError, nearest
from eir_seq.tokenizers.backend import Backend, SpecialTokens
from eir_seq.tokenizers.files import TokenizerConfigFiles
from eir_seq.tokenizers.framing import FIRST, PLAIN, SECOND, Framing, Part
from eir_seq.tokenizers.tokenizer import Tokenizer

M2M100 = (
    "af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu ha he hi hr ht "
    "hu hy id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr ms my ne nl no ns oc or pa pl ps "
    "pt ro ru sd si sk sl so sq sr ss su sv sw ta th tl tn tr uk ur uz vi wo xh yi yo zh zu"
)

WMT21 = "en ha is ja cs ru zh de"

MBART = (
    "ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT lv_LV my_MM ne_NP "
    "nl_XX ro_RO ru_RU si_LK tr_TR vi_VN zh_CN"
)

MBART50_FURTHER = (
    "af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN pl_PL ps_AF pt_XX sv_SE sw_KE "
    "ta_IN te_IN th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI"
)

NLLB = (
    "ace_Arab ace_Latn acm_Arab acq_Arab aeb_Arab afr_Latn ajp_Arab aka_Latn amh_Ethi apc_Arab arb_Arab ars_Arab "
    "ary_Arab arz_Arab asm_Beng ast_Latn awa_Deva ayr_Latn azb_Arab azj_Latn bak_Cyrl bam_Latn ban_Latn bel_Cyrl "
    "bem_Latn ben_Beng bho_Deva bjn_Arab bjn_Latn bod_Tibt bos_Latn bug_Latn bul_Cyrl cat_Latn ceb_Latn ces_Latn "
    "cjk_Latn ckb_Arab crh_Latn cym_Latn dan_Latn deu_Latn dik_Latn dyu_Latn dzo_Tibt ell_Grek eng_Latn epo_Latn "
    "est_Latn eus_Latn ewe_Latn fao_Latn pes_Arab fij_Latn fin_Latn fon_Latn fra_Latn fur_Latn fuv_Latn gla_Latn "
    "gle_Latn glg_Latn grn_Latn guj_Gujr hat_Latn hau_Latn heb_Hebr hin_Deva hne_Deva hrv_Latn hun_Latn hye_Armn "
    "ibo_Latn ilo_Latn ind_Latn isl_Latn ita_Latn jav_Latn jpn_Jpan kab_Latn kac_Latn kam_Latn kan_Knda kas_Arab "
    "kas_Deva kat_Geor knc_Arab knc_Latn kaz_Cyrl kbp_Latn kea_Latn khm_Khmr kik_Latn kin_Latn kir_Cyrl kmb_Latn "
    "kon_Latn kor_Hang kmr_Latn lao_Laoo lvs_Latn lij_Latn lim_Latn lin_Latn lit_Latn lmo_Latn ltg_Latn ltz_Latn "
    "lua_Latn lug_Latn luo_Latn lus_Latn mag_Deva mai_Deva mal_Mlym mar_Deva min_Latn mkd_Cyrl plt_Latn mlt_Latn "
    "mni_Beng khk_Cyrl mos_Latn mri_Latn zsm_Latn mya_Mymr nld_Latn nno_Latn nob_Latn npi_Deva nso_Latn nus_Latn "
    "nya_Latn oci_Latn gaz_Latn ory_Orya pag_Latn pan_Guru pap_Latn pol_Latn por_Latn prs_Arab pbt_Arab quy_Latn "
    "ron_Latn run_Latn rus_Cyrl sag_Latn san_Deva sat_Beng scn_Latn shn_Mymr sin_Sinh slk_Latn slv_Latn smo_Latn "
    "sna_Latn snd_Arab som_Latn sot_Latn spa_Latn als_Latn srd_Latn srp_Cyrl ssw_Latn sun_Latn swe_Latn swh_Latn "
    "szl_Latn tam_Taml tat_Cyrl tel_Telu tgk_Cyrl tgl_Latn tha_Thai tir_Ethi taq_Latn taq_Tfng tpi_Latn tsn_Latn "
    "tso_Latn tuk_Latn tum_Latn tur_Latn twi_Latn tzm_Tfng uig_Arab ukr_Cyrl umb_Latn urd_Arab uzn_Latn vec_Latn "
    "vie_Latn war_Latn wol_Latn xho_Latn ydd_Hebr yor_Latn yue_Hant zho_Hans zho_Hant zul_Latn"
)

PLBART, PLBART_FURTHER = "java python en_XX", "javascript php ruby go"


@dataclass(frozen=True)
class Languages:
    """How a format names languages.

    `tokens` by code; `first`: the token precedes the text, else after `</s>`; `default` is the language of
    sources where none is set; `options` are those of the tokenizer config that decided on it; `optional`: a text may
    are without a language.
    """

    tokens: Mapping[str, str]
    first: bool
    default: str | None
    options: Mapping[str, Any]
    optional: bool = False


def languages_of(config: TokenizerConfigFiles, lineage: str) -> Languages | None:
    """The languages of a format, None for formats that name none.

    Raises:
        UserError: `language_codes` or `legacy_behaviour` is something else than is allowed.
    """
    match lineage:
        case "m2m100":
            codes = config.text("language_codes", "m2m100", ("m2m100", "wmt21"))
            tokens = {code: f"__{code}__" for code in (M2M100 if codes == "m2m100" else WMT21).split()}
            return Languages(tokens, True, "en", {"language_codes": codes})
        case "mbart" | "mbart50":
            codes = MBART if lineage == "mbart" else f"{MBART} {MBART50_FURTHER}"
            return Languages({code: code for code in codes.split()}, lineage == "mbart50", "en_XX", {})
        case "nllb" | "nllbmoe":
            legacy = bool(config.flag("legacy_behaviour", False))
            return Languages({c: c for c in NLLB.split()}, not legacy, "eng_Latn", {"legacy_behaviour": legacy})
        case "plbart":
            kind = config.text("language_codes", "base", ("base", "multi"))
            tokens = {
                code: f"__{code}__" for code in (PLBART if kind == "base" else f"{PLBART} {PLBART_FURTHER}").split()
            }
            default = None if kind == "base" else "en_XX"
            return Languages(tokens, False, default, {"language_codes": kind}, optional=True)
    return None


class TranslationTokenizer(Tokenizer):
    """Texts to token ids and back, with a token that names the language.

    `src_lang` is that of the texts that are read, `tgt_lang` that of the texts that are written; both can be set at any
    time, and hold from then on.
    """

    def __init__(
        self,
        backend: Backend,
        specials: SpecialTokens,
        languages: Languages,
        *,
        src_lang: str | None = None,
        tgt_lang: str | None = None,
    ) -> None:
        super().__init__(backend, specials, PLAIN)
        self._languages = languages
        wrong = [
            self._unknown(place, code)
            for place, code in (("src_lang", src_lang), ("tgt_lang", tgt_lang))
            if code is not None and not self._knows(code)
        ]
        if wrong:
            raise UserError(*wrong)
        self.src_lang = src_lang
        self.tgt_lang = tgt_lang

    @property
    def src_lang(self) -> str | None:
        """The language of the texts that are read; None only where the format can do without."""
        return self._src_lang

    @src_lang.setter
    def src_lang(self, code: str | None) -> None:
        self._src_lang = self._languages.default if code is None else code
        self.framing = self._framing("src_lang", self._src_lang)

    @property
    def tgt_lang(self) -> str | None:
        """The language of the texts that are written, None as long as it is not set."""
        return self._tgt_lang

    @tgt_lang.setter
    def tgt_lang(self, code: str | None) -> None:
        self._tgt_lang = code
        known = code is not None or self._languages.optional
        self._target_framing = self._framing("tgt_lang", code) if known else None

    @property
    def target_framing(self) -> Framing:
        """The framing of a target text.

        Raises:
            UserError: `tgt_lang` is not set.
        """
        if self._target_framing is None:
            example = ", ".join(self.languages[:3])
            raise UserError(Fault("tgt_lang", f"not set, but this format needs it: a code such as {example}"))
        return self._target_framing

    @property
    def target_language_id(self) -> int | None:
        """The token of `tgt_lang`: what generation must begin with."""
        return None if self._tgt_lang is None else self.get_lang_id(self._tgt_lang)

    @property
    def languages(self) -> tuple[str, ...]:
        """The codes of all languages."""
        return tuple(self._languages.tokens)

    def get_lang_token(self, code: str) -> str:
        """The token of a language.

        Raises:
            UserError: an unknown code.
        """
        return self._token_of("language", code)

    def get_lang_id(self, code: str) -> int:
        """The id of the token of a language, e.g. for `generate(forced_bos_token_id=...)`.

        Raises:
            UserError: an unknown code.
        """
        return self._id(self.get_lang_token(code))

    def _token_of(self, place: str, code: str) -> str:
        if not self._knows(code):
            raise UserError(self._unknown(place, code))
        return self._languages.tokens.get(code, code)

    def _knows(self, code: str) -> bool:
        return code in self._languages.tokens or code in self._languages.tokens.values()

    def _unknown(self, place: str, code: str) -> Fault:
        return Fault(place, f"{code!r} is not one of {', '.join(self.languages)}{nearest(code, self.languages)}")

    def _framing(self, place: str, code: str | None) -> Framing:
        language = () if code is None else (Part(self._id(self._token_of(place, code)), 0),)
        eos = Part(self._needed_eos(), 0)
        before, after = (language, (eos,)) if self._languages.first else ((), (eos, *language))
        framing = Framing(
            single=(*before, Part(FIRST, 0), *after), pair=(*before, Part(FIRST, 0), Part(SECOND, 0), *after)
        )
        return framing.typed(self.token_type_ids_pattern)

    def _needed_eos(self) -> int:
        if self.eos_id is None:
            raise UserError(Fault("eos_token", "this format needs it"))
        return self.eos_id

    def _options(self) -> dict[str, Any]:
        return super()._options() | {**self._languages.options, "src_lang": self._src_lang, "tgt_lang": self._tgt_lang}
